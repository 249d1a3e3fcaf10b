"""Streams of any number of sentences, in bounded memory."""
