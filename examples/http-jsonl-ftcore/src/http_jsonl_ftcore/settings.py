"""What a configuration may say under `[http-jsonl]`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from ftcore.settings import Section


class HttpJsonlSettings(Section):
    """The `[http-jsonl]` section."""

    # None of it decides which rows there are; ftcore compares the rows themselves when a run goes on.
    may_change: ClassVar = frozenset({"token_variable", "timeout", "retries", "retry_wait"})

    token_variable: Annotated[str, Field(min_length=1)] = "HTTP_JSONL_TOKEN"  # noqa: S105 (the name of a variable)
    """The environment variable with a bearer token. None is sent where it is not set or empty."""

    timeout: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """Seconds to wait for a connection, and for each next piece of the body."""

    retries: Annotated[int, Field(ge=0, le=20)] = 4
    """How often a download is begun again when it fails in a way that may pass: no connection, a body that was cut off, a server that is busy or broken."""

    retry_wait: Annotated[float, Field(ge=0, le=60)] = 1.0
    """Seconds before the first retry, doubled for each one after it. A server's own `Retry-After` counts instead, up to a minute."""
