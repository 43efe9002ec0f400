"""Measurements: both sides of every ratio, in one run."""
