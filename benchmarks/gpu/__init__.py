"""bertq on a GPU: the encoder in process, beside PyTorch, and through the queue."""
