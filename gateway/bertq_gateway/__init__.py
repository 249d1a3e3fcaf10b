"""The HTTP gateway, for clients in any language and for clients of OpenAI's API."""
