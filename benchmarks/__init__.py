"""Measurements that a reader can rerun; they use the public face of the package."""
