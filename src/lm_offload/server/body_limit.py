"""Bodies are held in memory beside the model's budget: long ones are not read to their end."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lm_offload.units import MIB

MAX_BODY_BYTES = 32 * MIB
_TOO_LARGE = 413


class BodyLimit:
    """Answers a request whose body is longer than `most_bytes` with status 413."""

    def __init__(self, app: ASGIApp, most_bytes: int = MAX_BODY_BYTES) -> None:
        self._app = app
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what the routes receive."""
        received_bytes = 0

        async def counted() -> Message:
            nonlocal received_bytes
            message = await receive()
            received_bytes += len(message.get("body", b""))
            if received_bytes > self._most_bytes:
                most = f"{self._most_bytes // MIB} MiB"
                raise HTTPException(_TOO_LARGE, f"the body is longer than {most}; send less")
            return message

        await self._app(scope, counted, send)
