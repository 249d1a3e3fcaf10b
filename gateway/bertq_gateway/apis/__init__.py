"""Routes: a module for each API, and the fields that their requests share."""
