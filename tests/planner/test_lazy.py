"""A lazy property is computed once for each instance."""

from __future__ import annotations

from dataclasses import dataclass, field

from lm_offload.planner.lazy import lazy


@dataclass(frozen=True)
class Square:
    side: int
    asked: list[int] = field(default_factory=list, compare=False)

    @lazy
    def area(self) -> int:
        """Its area."""
        self.asked.append(self.side)
        return self.side**2


def test_a_value_is_computed_once_for_each_instance():
    small, large = Square(2), Square(3)
    assert [small.area, large.area, small.area] == [4, 9, 4]
    assert [small.asked, large.asked] == [[2], [3]]


def test_the_class_itself_gives_the_property_with_its_words():
    assert isinstance(Square.area, lazy)
    assert Square.area.__doc__ == "Its area."
