"""``bertq bench``, and code that it shares with the benchmarks of the repository.

Importing this package imports neither TensorFlow, nor the tokenizer, nor matplotlib.
"""
