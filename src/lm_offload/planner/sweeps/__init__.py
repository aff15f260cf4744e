"""Seconds of sweeps and of whole runs: on the CPU, on devices, on both."""
