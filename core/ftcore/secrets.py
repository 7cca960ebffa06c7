"""Keeping secrets out of everything that is shown or written.

Secrets reach a run through the environment. Whatever value an environment variable with a telling name has is replaced
wherever ftcore writes text, as are what stands in front of the host of a URL, unless it is plainly the name of a user and
nothing more, the values of telling options behind its question mark, and what looks like a Hub token. So is the value of
a configuration key with a telling name, wherever it came from (`remember`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote

MASK = "***"

_TELLING = re.compile(r"TOKEN(?!IZ)|SECRET|PASSWORD|PASSWD|(API|ACCESS|PRIVATE)[_-]?KEY|CREDENTIAL", re.IGNORECASE)
_TELLING_KEY = re.compile(
    r"(^|_)(password|passwd|secret|credentials?|(api|access|private)_?key|authorization|((api|access|auth|bearer)_)?token)$",
    re.IGNORECASE,
)
_SCHEME = "[a-z][a-z0-9+.-]{0,40}"  # a limit, or a long word would be looked through from each of its letters
_IN_URL = re.compile(rf"(?P<scheme>{_SCHEME}://)(?P<user>[^/\s?#\"']*)@", re.IGNORECASE)
_QUERY = re.compile(rf"(?P<url>{_SCHEME}://[^\s?\"']*\?)(?P<options>[^\s\"'#]*)", re.IGNORECASE)
_OPTION = re.compile(r"(?P<name>[^&;=]+)=(?P<value>[^&;]+)")
_TELLING_OPTION = re.compile(rf"{_TELLING.pattern}|(^|[_-])(sig|signature|pwd|auth)$", re.IGNORECASE)
_OF_USERS = frozenset(
    {
        "postgresql", "postgres", "cockroachdb", "mysql", "mariadb", "mssql", "oracle", "mongodb",
        "ssh", "sftp", "ftp", "ftps", "rsync", "scp", "hdfs",
    }
)  # fmt: skip
"""Schemes that want the name of a user in front of the host, and a password behind a colon. Of others, HTTP for one, it
is not known: servers take a token there all by itself."""
_TOKEN_ALONE = frozenset({"http", "https"})
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}")
_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_SHORTEST = 6  # masking "1" or "true" wherever it occurs would make logs unreadable and protect nothing

_SHORTEST_TOKEN = 16

# What a configuration has told is a fact of the process, as its environment is.
_remembered: set[str] = set()


def is_secret_key(name: str) -> bool:
    """Whether a configuration key's name says that its value is a secret.

    Keys like `pad_token` are none: the word alone, or behind `api`, `access`, `auth` or `bearer`, is.
    """
    found = _TELLING_KEY.search(name)
    return found is not None and (found[2].lower() != "token" or name.lower() == "token")


def remember(value: str) -> None:
    """Mask this value from now on, and the password where it is a URL with one."""
    _remembered.update(secret for secret in (value, *_passwords(value)) if _is_long_enough(secret))


def remember_passwords(value: str) -> None:
    """Mask the password in a URL from now on, also where it stands alone."""
    _remembered.update(secret for secret in _passwords(value) if _is_long_enough(secret))


def secret_values() -> list[str]:
    """The values to mask, longest first, so that one secret inside another leaves nothing behind."""
    values = set(_remembered)
    for name, value in os.environ.items():
        if _tells(name) and _is_long_enough(value):
            values.add(value)
        if "://" in value:
            values.update(secret for secret in _passwords(value) if _is_long_enough(secret))
    return sorted({text for value in values for text in _notations(value)}, key=len, reverse=True)


def mask(text: str) -> str:
    """The text without secrets."""
    for value in secret_values():
        text = text.replace(value, MASK)
    if "://" in text:
        text = _QUERY.sub(_without_telling_options, _IN_URL.sub(_without_user, text))
    return _HUB_TOKEN.sub(MASK, text)


def masked(value: Any) -> Any:
    """The value, and all texts inside it, without secrets."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {key: masked(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(item) for item in value]
    return value


@lru_cache(maxsize=1000)
def _tells(variable: str) -> bool:
    return _TELLING.search(variable) is not None


@lru_cache(maxsize=100)
def _notations(value: str) -> frozenset[str]:
    """In an address, in JSON, and in Python's own notation a secret is written in another way."""
    return frozenset({value, quote(value, safe=""), quote(value), json.dumps(value)[1:-1], repr(value)[1:-1]})


def _without_user(url: re.Match[str]) -> str:
    user, colon, password = url["user"].partition(":")
    if _VARIABLE.fullmatch(password if colon else user):
        return url[0]  # the name of a variable, in a configuration that is to be read again
    if not colon and _is_a_users_name(url["scheme"], user):
        return url[0]
    return f"{url['scheme']}{MASK}@"


def _is_a_users_name(scheme: str, user: str) -> bool:
    """Whether what stands alone in front of a host can be nothing but the name of a user."""
    parts = scheme.lower().removesuffix("://").split("+")  # postgresql+psycopg, git+ssh
    wanted = not _OF_USERS.isdisjoint(parts) and _TOKEN_ALONE.isdisjoint(parts)
    return wanted and len(user) < _SHORTEST_TOKEN and _USER.fullmatch(user) is not None


def _without_telling_options(url: re.Match[str]) -> str:
    return url["url"] + _OPTION.sub(_without_value, url["options"])


def _without_value(option: re.Match[str]) -> str:
    if not _TELLING_OPTION.search(option["name"]) or _VARIABLE.fullmatch(option["value"]):
        return option[0]
    return f"{option['name']}={MASK}"


def _passwords(text: str) -> Iterator[str]:
    for found in _QUERY.finditer(text):
        for option in _OPTION.finditer(found["options"]):
            if _without_value(option) != option[0]:
                yield from (option["value"], unquote(option["value"]))
    for found in _IN_URL.finditer(text):
        user, colon, password = found["user"].partition(":")
        if _VARIABLE.fullmatch(password if colon else user):
            continue
        if colon:
            yield from (password, unquote(password))
        elif len(user) >= _SHORTEST_TOKEN:  # a shorter one is the name of a user, and may be a common word
            yield user


def _is_long_enough(value: str) -> bool:
    return len(value) >= _SHORTEST and not value.isdecimal()
