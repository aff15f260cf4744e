"""Environment variables that are named like those of options, and mean nothing."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

from lm_offload.cli.settings import ENVIRONMENT_PREFIX, key_of, variable_of
from lm_offload.near_name import did_you_mean

log = logging.getLogger(__name__)

OF_NO_OPTION = ("cache", "profile", "emulate", "sanitize")  # the last two are for builds


def warn_of_strangers(group: Any) -> None:
    """One warning for each variable that no command of `group` and nothing else reads."""
    known = {variable_of(key): key for key in (*OF_NO_OPTION, *_keys_in(group))}
    for name in sorted(os.environ):
        if name.startswith(ENVIRONMENT_PREFIX) and name not in known:
            key = name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("_", "-")
            hint = did_you_mean(key, known.values())
            log.warning("%s is the variable of no option%s.", name, hint)


def _keys_in(group: Any) -> Iterator[str]:
    for command in group.commands.values():
        if hasattr(command, "commands"):
            yield from _keys_in(command)
        else:
            yield from map(key_of, command.params)
