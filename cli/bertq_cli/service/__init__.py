"""Start and supervision of the processes of a service."""
