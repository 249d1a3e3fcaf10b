"""The ``bertq`` command. The one room that knows the client; workers it starts as processes."""
