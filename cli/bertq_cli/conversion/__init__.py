"""Conversion of pickled weights to safetensors."""
