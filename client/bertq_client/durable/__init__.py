"""Durable jobs: jobs that outlive the client that submitted them."""
