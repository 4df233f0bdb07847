"""Measurements: permanent scenarios with seeds, each timed in turn with its reference in one run."""
