"""Files of any size: sentences in, a file of vectors out, resumed where it stopped."""
