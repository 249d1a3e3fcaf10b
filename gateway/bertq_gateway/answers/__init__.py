"""Answers: vectors and scores of the workers, and writing them as JSON."""
