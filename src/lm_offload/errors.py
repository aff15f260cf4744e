"""The one exception tree of the package.

::

    LMOffloadError                  exit status
    |-- ConfigError                      2   an option or a plan that cannot hold
    |   `-- BudgetError                  3   no plan fits the memory that was given
    |-- CheckpointError                  4   files of the model are missing or wrong
    |   |-- UnsupportedModelError        5   an architecture or rope type not known here
    |   `-- CheckpointChangedError       6   a weight file changed while it was in use
    |-- RequestError                     7   a prompt or sampling value that cannot be served
    |-- StorageError                     8   the disk failed or is full
    `-- DeviceError                      9   the GPU failed or was lost
        `-- DeviceMemoryError            9   it has no memory left

Every message is one sentence: what was given, what is allowed, what to do.
"""

MOST_SHOWN = 200  # characters of a value in a message


def shown(text: str) -> str:
    """As much of a given value as a message has room for."""
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


class LMOffloadError(Exception):
    """Any error this package raises on purpose."""

    exit_status = 1


class ConfigError(LMOffloadError):
    """An option, budget or plan that cannot take effect."""

    exit_status = 2


class BudgetError(ConfigError):
    """No plan fits into the memory that was given."""

    exit_status = 3


class CheckpointError(LMOffloadError):
    """The files of a model are missing, truncated or inconsistent."""

    exit_status = 4


class UnsupportedModelError(CheckpointError):
    """The checkpoint asks for an architecture or feature that is not known here."""

    exit_status = 5


class CheckpointChangedError(CheckpointError):
    """A weight file was modified while the engine was reading from it."""

    exit_status = 6


class RequestError(LMOffloadError):
    """A prompt or a sampling value that cannot be served."""

    exit_status = 7


class StorageError(LMOffloadError):
    """The disk reported an error, or is full, while weights were being read or written."""

    exit_status = 8


class DeviceError(LMOffloadError):
    """The GPU failed or was lost while it was in use."""

    exit_status = 9


class DeviceMemoryError(DeviceError):
    """The GPU has no memory left: `what` that was for, and how many bytes more are needed."""

    def __init__(self, message: str, what: str, lacking_bytes: int) -> None:
        super().__init__(message)
        self.what = what
        self.lacking_bytes = lacking_bytes
