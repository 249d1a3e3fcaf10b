"""The same sentences and the same model through bertq and its peers: one file for each.

Each file has ``NAME``, ``PACKAGES`` whose versions matter, ``VARIANTS``, and
``load(model_dir, max_seq_len, threads, variants)``, which returns a function for each variant that
takes a list of str and returns float32 rows: the mean over the last layer's token vectors.
"""
