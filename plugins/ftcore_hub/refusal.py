"""What went wrong at the Hub, in words that say what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ftcore_hub import tokens

TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
"""The status codes that may be gone at the next try."""

_LONGEST_WAIT = 300.0  # seconds: the length of the Hub's own rate-limit window


class Refusal(Exception):
    """The Hub did not take the model.

    Attributes:
        why: the reason, as a clause.
        fix: what to change; may be empty.
        passing: whether it may be otherwise in an hour: the Hub is away, or busy.
    """

    def __init__(self, why: str, fix: str = "", passing: bool = False) -> None:
        super().__init__(why)
        self.why, self.fix, self.passing = why, fix, passing


def status_of(error: BaseException) -> int | None:
    """The HTTP status behind an error, if an answer came at all."""
    response = _response(error)
    if response is not None:
        return int(response.status_code)
    # hf_xet gives its answers' status in the text only, whatever the error's type is.
    texts = (re.search(r"HTTP status (?:client|server) error \((\d{3})\b", str(one)) for one in _chain(error))
    return next((int(found[1]) for found in texts if found), None)


def is_transient(error: BaseException) -> bool:
    """Whether another try may succeed: too many requests, trouble at the Hub, or a line that broke."""
    status = status_of(error)
    return status in TRANSIENT if status is not None else _line_broke(error)


def wait_asked_for(error: BaseException) -> float:
    """The seconds that the Hub asks to wait; 0 where it asks for nothing, 300 at most."""
    response = _response(error)
    if response is None:
        return 0.0
    asked = re.fullmatch(r"\s*(\d+)\s*", response.headers.get("Retry-After", ""))
    asked = asked or re.search(r";\s*r=0\s*;\s*t=(\d+)", response.headers.get("RateLimit", "").replace(" ", ""))
    return min(float(asked[1]), _LONGEST_WAIT) if asked else 0.0


def explain(error: Exception, repo_id: str, endpoint: str, token: str) -> Refusal:
    """The refusal behind an error of the client."""
    if isinstance(error, Refusal):
        return error
    status = status_of(error)
    said = _said(error, token)
    page = f"{endpoint}/settings/tokens"
    if status == 401:
        return Refusal(f"{endpoint} does not accept the token", f"Make one that can write at {page} and set HF_TOKEN")
    if status == 403:
        return Refusal(
            f"the token may not write to {repo_id} (403{said})",
            f"Use a token that can write there ({page}), or a repo_id in [hub] that is yours",
        )
    if status == 404 and "/xet-" in str(error):
        return Refusal(f"{endpoint} has no Xet storage", "Set HF_HUB_DISABLE_XET=1 to upload without it")
    if status == 404:
        return Refusal(
            f"{endpoint} has no such namespace, repository or branch, or hides it from this token (404{said})",
            "Check repo_id and revision in [hub]",
        )
    if status == 429:
        return Refusal(f"the Hub takes no more requests for now (429{said})", "Wait a few minutes", passing=True)
    if status is not None and status >= 500:
        return Refusal(f"the Hub is in trouble ({status}{said})", "Try again later", passing=True)
    if status is not None:
        return Refusal(f"the Hub refused it ({status}{said})")
    if _line_broke(error):
        return Refusal(
            f"{endpoint} cannot be reached ({_text(error, token)})",
            "Check the network, or endpoint in [hub]",
            passing=True,
        )
    if any("xet" in type(one).__name__.lower() or "xet" in str(one).lower() for one in _chain(error)):
        return Refusal(
            f"the upload to the Hub's Xet storage failed ({_text(error, token)})",
            "Set HF_HUB_DISABLE_XET=1 to upload without Xet",
        )
    return Refusal(_text(error, token))


def _line_broke(error: BaseException) -> bool:
    import httpx

    broken = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, ConnectionError, TimeoutError)
    return any(isinstance(one, broken) for one in _chain(error))


def _response(error: BaseException) -> Any:
    responses = (getattr(one, "response", None) for one in _chain(error))
    return next((response for response in responses if response is not None), None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    # The client wraps the error of one file's upload in another one.
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _said(error: BaseException, token: str) -> str:
    """What the server said about it, as `: …`, or ""."""
    response = _response(error)
    message = response.headers.get("X-Error-Message") if response is not None else None
    message = message or next((text for one in _chain(error) if (text := getattr(one, "server_message", None))), "")
    text = " ".join(tokens.hide(message, token).split()).rstrip(".")
    return f": {text[:200]}" if text else ""


def _text(error: BaseException, token: str) -> str:
    """The error and what caused it, on one line."""
    links = [error]
    while (cause := links[-1].__cause__) is not None and cause not in links:
        links.append(cause)
    texts = dict.fromkeys(" ".join(str(link).split()).rstrip(".") or type(link).__name__ for link in links)
    text = tokens.hide(": ".join(texts), token)
    # Addresses of the storage carry their permission in the query.
    return re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]+", r"\1", text)[:300]
