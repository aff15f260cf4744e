"""What every part of an answer begins with."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from lm_offload.server.answer_forms import Json


@dataclass(frozen=True)
class Head:
    """Of an answer of completions or chat."""

    model: str
    kind: str  # OpenAI's `object`
    prefix: str  # of its id
    created_s: int = field(default_factory=lambda: int(time.time()))
    number: str = field(default_factory=lambda: uuid4().hex)

    def around(self, **rest: Any) -> Json:
        """An object with this head."""
        first = {"id": f"{self.prefix}-{self.number}", "object": self.kind}
        return {**first, "created": self.created_s, "model": self.model, **rest}
