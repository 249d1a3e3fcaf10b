"""Tokenizers, which convert texts to token ids."""
