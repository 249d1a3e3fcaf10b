"""Scores: reranking, similarity of vectors, and search in a corpus."""
