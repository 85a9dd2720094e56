"""Limits, order and rates."""
