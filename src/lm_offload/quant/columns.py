"""Which matrices can be packed: those whose columns can be cut into groups."""

from __future__ import annotations

from lm_offload.errors import ConfigError
from lm_offload.quant.format import Format

COLUMN_STEP = 32  # columns of a packed matrix are a multiple of this


def check_columns(format: Format, columns: int, what: str = "the matrix") -> None:
    """Raises ConfigError where `columns` cannot be cut into groups."""
    step = max(format.group_size, COLUMN_STEP)
    if columns % step or not columns:
        raise ConfigError(
            f"{what} has {columns} columns, which {format} cannot cut into groups; allowed are "
            f"multiples of {step}: choose a smaller group size or keep its own format."
        )
