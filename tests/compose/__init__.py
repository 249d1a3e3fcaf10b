"""The compose file: its form, and what its services run, outside of containers."""
