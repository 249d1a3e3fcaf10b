"""The ``bertq`` command. It imports the client and the gateway, and runs workers as processes."""
