"""Formats of weights and their reference implementation in plain torch."""
