"""``bertq bench``, and what it shares with the benchmarks of the repository.

Importing it imports neither TensorFlow, nor the tokenizer, nor matplotlib.
"""
