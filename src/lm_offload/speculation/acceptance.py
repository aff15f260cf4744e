"""How likely a drafted token is right, by the length of the match that it was drafted from."""

from __future__ import annotations

PRIOR_TRIES = 0.25  # tried tokens that shorter matches count for: what is seen wins soon
WINDOW_TRIES = 24.0  # older ones fade, since a text may begin or cease to repeat itself


class Acceptance:
    """Running estimates of one sequence; matches of 2-3, 4-7, 8-15 and 16 tokens apart.

    Longer matches are taken for as good as shorter ones until they are seen, and the shortest for
    hopeless: the first drafts are compared with the text and not verified, which costs nothing.
    """

    def __init__(self) -> None:
        self._counts: dict[int, tuple[float, float]] = {}  # right, tried

    def chance(self, match_length: int) -> float:
        """The probability that a drafted token is right if those before it are."""
        chance = 0.0
        for kind in range(match_length.bit_length() + 1):
            if kind in self._counts:
                right, tried = self._counts[kind]
                chance = (chance * PRIOR_TRIES + right) / (PRIOR_TRIES + tried)
        return chance

    def observe(self, match_length: int, right: int, tried: int) -> None:
        """`right` of `tried` tokens were what the model said."""
        old_right, old_tried = self._counts.get(match_length.bit_length(), (0.0, 0.0))
        keep = min(WINDOW_TRIES / (old_tried + tried), 1.0)
        self._counts[match_length.bit_length()] = (
            keep * (old_right + right),
            keep * (old_tried + tried),
        )
