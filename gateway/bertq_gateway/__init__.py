"""The HTTP gateway: for clients in any language, and for those that speak OpenAI's API."""
