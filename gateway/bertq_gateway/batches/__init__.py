"""OpenAI's Batch API: files of requests, which are answered in a file."""
