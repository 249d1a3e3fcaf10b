"""The sub-commands of ``bertq``."""
