"""Benchmarks of bertq; ``python -m benchmarks`` runs all of them.

The peers' part of it also runs where bertq is not installed: nothing of it is imported here.
"""
