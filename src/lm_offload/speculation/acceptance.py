"""How likely a drafted token is right: of a match by its length, and of a draft model."""

from __future__ import annotations

PRIOR_TRIES = 0.25  # tried tokens that shorter matches count for: what is seen wins soon
WINDOW_TRIES = 24.0  # older ones fade, since a text may begin or cease to repeat itself
HOPED_CHANCE = 0.7  # of a draft model's token before any was seen
HOPED_TRIES = 1.0  # tried tokens that this counts for
FIRST_DEPTH = 2  # tokens that are drafted before any was right
PATIENCE = 16  # sweeps without drafts until they are tried again, then twice as many


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


class ModelAcceptance:
    """A running estimate for what a model drafts for one sequence.

    Unlike a match, a draft has its price before it is known to be right. So the first ones are
    short, and where they are not worth it they are tried again ever more seldom.
    """

    def __init__(self, hoped: float = HOPED_CHANCE) -> None:
        self._hoped = hoped
        self._right = self._tried = 0.0
        self._resting, self._patience = 0, PATIENCE

    @property
    def chance(self) -> float:
        """The probability that a drafted token is right if those before it are."""
        hoped = self._hoped * HOPED_TRIES
        return (hoped + self._right) / (HOPED_TRIES + self._tried)

    @property
    def most(self) -> int:
        """Tokens to draft at once at most."""
        return FIRST_DEPTH + 2 * int(self._right)

    def observe(self, right: int, tried: int) -> None:
        """`right` of `tried` tokens were what the big model said; of none in a sweep without."""
        if not tried:
            return self._rest()
        self._resting = 0
        keep = min(WINDOW_TRIES / (self._tried + tried), 1.0)
        self._right, self._tried = keep * (self._right + right), keep * (self._tried + tried)

    def _rest(self) -> None:
        self._resting += 1
        if self._resting == self._patience:
            self._hoped = max(self._hoped, HOPED_CHANCE)
            self._right = self._tried = 0.0
            self._resting, self._patience = 0, 2 * self._patience
