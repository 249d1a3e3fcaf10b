"""The same sentences and the same model through bertq and its peers: one file for each.

Each file has ``NAME``, ``PACKAGES`` whose versions matter, ``VARIANTS``, and
``load(settings, variants)``, which returns a function for each variant that takes a list of str and
returns float32 rows: the mean over the last layer's token vectors. Those that also run on a GPU
have ``prepare(encode, texts)``, which tokenizes and returns a function that computes the rows.
"""
