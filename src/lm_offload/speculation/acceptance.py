"""How likely a drafted token is right, by the length of the match that it was drafted from."""

from __future__ import annotations

PRIOR_TRIES = 0.5  # tried tokens that the prior counts for: what is seen wins soon
WINDOW_TRIES = 16.0  # older ones fade, since a text may begin or cease to repeat itself


class Acceptance:
    """Running estimates of one sequence; matches of 2-3, 4-7, 8-15 and 16 tokens apart."""

    def __init__(self) -> None:
        self._counts: dict[int, tuple[float, float]] = {}  # right, tried

    def chance(self, match_length: int) -> float:
        """The probability that a drafted token is right if those before it are."""
        right, tried = self._counts.get(match_length.bit_length(), (0.0, 0.0))
        return (prior(match_length) * PRIOR_TRIES + right) / (PRIOR_TRIES + tried)

    def observe(self, match_length: int, right: int, tried: int) -> None:
        """`right` of `tried` tokens were what the model said."""
        old_right, old_tried = self._counts.get(match_length.bit_length(), (0.0, 0.0))
        keep = min(WINDOW_TRIES / (old_tried + tried), 1.0)
        self._counts[match_length.bit_length()] = (
            keep * (old_right + right),
            keep * (old_tried + tried),
        )


def prior(match_length: int) -> float:
    """Before anything is seen: a half for pairs, and half as many errors for each class above."""
    return 1.0 - 0.5 ** (match_length.bit_length() - 1)
