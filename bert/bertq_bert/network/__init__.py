"""The network as TensorFlow graphs."""
