"""The ``bertq`` command. It knows the client and the gateway; workers it starts as processes."""
