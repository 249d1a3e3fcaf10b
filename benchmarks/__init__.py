"""What bertq is measured with; ``python -m benchmarks`` runs it all.

The peers' part of it also runs where bertq is not installed: nothing of it is imported here.
"""
