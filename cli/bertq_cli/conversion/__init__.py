"""Converts pickled weights into safetensors."""
