"""Carries out the tasks of a sweep and records what happened when."""
