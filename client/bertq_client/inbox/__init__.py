"""Receives results and puts rows in order; finds lost chunks."""
