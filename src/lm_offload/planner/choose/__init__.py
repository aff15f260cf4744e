"""The search: what it chooses from, bounds, predictions, the fastest plan."""
