"""Pipelines as a user writes them."""
