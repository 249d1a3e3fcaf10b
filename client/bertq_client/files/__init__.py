"""Encodes files of any size into files of vectors, and resumes interrupted runs."""
