"""Getting a body over HTTP, all of it or an error."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from http.client import responses
from pathlib import Path
from urllib.parse import urlsplit

import requests
import urllib3

from ftcore import secrets
from ftcore.errors import ConfigError, DataError
from http_jsonl_ftcore.settings import HttpJsonlSettings

_MAY_PASS = {408, 425, 429, 500, 502, 503, 504}
_LONGEST_WAIT = 60.0
_LOCAL = ("localhost", "127.0.0.1", "::1")

Auth = Callable[[requests.PreparedRequest], requests.PreparedRequest]


class _MayPass(Exception):
    """A failure that may be gone the next time; `wait` is how many seconds the server asks for."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        self.wait = wait
        super().__init__(why)


def download(url: str, body: Path, settings: HttpJsonlSettings, etag: str | None) -> str | None:
    """Write the body to a file as it was sent, gzipped perhaps.

    Args:
        etag: of a body that is there already, if any.

    Returns:
        The body's ETag, empty where it has none; None where the server says that it still is the one of `etag`. Nothing
        is written then.

    Raises:
        ConfigError: the token cannot be sent.
        DataError: the server cannot be reached, gives no body, or not all of it.
    """
    auth = _auth(url, settings)
    for wait in [*(settings.retry_wait * 2**number for number in range(settings.retries)), None]:
        try:
            return _once(url, body, settings, etag, auth)
        except _MayPass as failure:
            if wait is None:
                times = f" ({settings.retries + 1} attempts)" if settings.retries else ""
                raise _failed(url, f"{failure}{times}", "Try again later, or raise [http-jsonl] retries") from None
            time.sleep(min(wait if failure.wait is None else failure.wait, _LONGEST_WAIT))
    raise AssertionError("the last attempt returns or raises")


def _auth(url: str, settings: HttpJsonlSettings) -> Auth | None:
    token = os.environ.get(settings.token_variable, "").strip()
    if not token:
        return None
    secrets.remember(token)  # ftcore masks it from here on, whatever its variable is called
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in _LOCAL:
        why = f"{url} is not encrypted, and everybody on the way could read it"
        raise ConfigError(f"the token in {settings.token_variable} is not sent", why=why, fix="Write https://")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ConfigError(f"{settings.token_variable} holds no token", why="it has characters that no token has")

    def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
        # Not among the headers of the call, where requests would replace it by what ~/.netrc says.
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    return sign


def _once(url: str, body: Path, settings: HttpJsonlSettings, etag: str | None, auth: Auth | None) -> str | None:
    headers = {"Accept-Encoding": "gzip"} | ({"If-None-Match": etag} if etag else {})
    try:
        # Followed to another host, requests leaves the token behind.
        with requests.get(url, headers=headers, auth=auth, stream=True, timeout=settings.timeout) as response:
            if response.status_code == 304 and etag:
                return None
            _demand_a_body(url, response, settings)
            with body.open("wb") as file:
                # Undecoded: the announced length is that of what is sent.
                for piece in response.raw.stream(1 << 16, decode_content=False):
                    file.write(piece)
            return str(response.headers.get("ETag", ""))
    except requests.exceptions.SSLError as error:
        fix = "Give the certificate of your authority in REQUESTS_CA_BUNDLE"
        raise _failed(url, f"its certificate is not trusted: {_root(error)}", fix) from None
    except (requests.Timeout, urllib3.exceptions.TimeoutError):
        raise _MayPass(f"nothing came for {settings.timeout:g} seconds") from None
    except urllib3.exceptions.HTTPError:
        raise _MayPass("the body was cut off in the middle") from None
    except requests.ConnectionError as error:
        raise _MayPass(f"no connection to {urlsplit(url).netloc}: {_root(error)}") from None
    except requests.RequestException as error:
        raise _failed(url, str(error), "Check the address") from None


def _demand_a_body(url: str, response: requests.Response, settings: HttpJsonlSettings) -> None:
    """Let a response pass that has a body, the end of which can be told."""
    status = response.status_code
    name = f"HTTP {status} {responses.get(status, '')}".strip()
    if status in _MAY_PASS:
        after = response.headers.get("Retry-After", "")
        raise _MayPass(name, float(after) if after.isdecimal() else None)
    if status in (401, 403):
        sent = "Authorization" in response.request.headers
        fix = f"Check the token in {settings.token_variable}" if sent else f"Put a token into {settings.token_variable}"
        raise _failed(url, name, fix)
    if status != 200:
        raise _failed(url, name, "Check the address")
    if "Content-Length" not in response.headers and response.headers.get("Transfer-Encoding", "").lower() != "chunked":
        why = "the server does not say how long the body is, so that a part could be taken for all of it"
        raise _failed(url, why, "Let it send Content-Length, or chunks")


def _failed(url: str, why: str, fix: str) -> DataError:
    return DataError(f"{url} cannot be downloaded", why=why, fix=fix)


def _root(error: BaseException) -> str:
    """What the system said: the error at the bottom of those that were raised from one another."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
