"""The compose file: its form, and the commands of its services, run without containers."""
