"""Paged blocks of keys and values inside the memory budget."""
