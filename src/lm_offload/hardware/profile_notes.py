"""What is known against a profile, in a sentence."""

from __future__ import annotations

from lm_offload.hardware.profile import HardwareProfile

MOST_DISTURBED_FRAC = 0.1  # of the time of a calibration, of which rates hardly tell


def disturbance_note(profile: HardwareProfile) -> str | None:
    """Says that other work slowed its measurement; None where that did not."""
    if profile.disturbed_frac <= MOST_DISTURBED_FRAC:
        return None
    return (
        f"Other work disturbed {profile.disturbed_frac:.0%} of the time in which this machine was "
        "measured, so rates may be too low; run lm-offload profile when it is quiet."
    )
