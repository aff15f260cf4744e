"""The task sequence of a sweep, as data: pure generators, no device."""
