"""Decides what is resident and how large everything is, by predicted time."""
