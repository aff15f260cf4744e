"""Formats of weights, keys and values, and their reference implementation in plain torch."""
