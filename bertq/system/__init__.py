"""Facts about this machine and this installation."""
