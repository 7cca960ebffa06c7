"""What passes between a `FakeHub` and its routes: tokens, what the Hub knows, and answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ftcore.testing.hub_storage import Repository

Role = Literal["read", "write", "fineGrained"]


@dataclass(frozen=True)
class Token:
    """An access token: whose it is, which organizations that user writes to, and what it may do.

    A fine-grained one writes only to the namespaces and repositories in `writes`.
    """

    user: str
    role: Role = "write"
    orgs: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()

    def may_write(self, repo_id: str) -> bool:
        if self.role == "fineGrained":
            return repo_id in self.writes or repo_id.partition("/")[0] in self.writes
        return self.role == "write" and self.owns(repo_id)

    def owns(self, repo_id: str) -> bool:
        return repo_id.partition("/")[0] in (self.user, *self.orgs)


@dataclass(frozen=True)
class Answer:
    """What goes back to the client."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class State:
    """What the Hub knows: its own address, models and datasets by id, tokens, and the upload tickets it gave out."""

    url: str
    repos: dict[str, Repository] = field(default_factory=dict)
    datasets: dict[str, Repository] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    tickets: dict[str, tuple[Repository, str]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)


def as_json(value: Any, status: int = 200) -> Answer:
    """An answer with a JSON body."""
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


def refusal(status: int, message: str, code: str = "", headers: Mapping[str, str] | None = None) -> Answer:
    """An error as the Hub tells it: the message in the body and, with the code that clients go by, in headers."""
    codes = {"X-Error-Code": code} if code else {}
    answer = as_json({"error": message}, status)
    return Answer(status, answer.body, {**answer.headers, "X-Error-Message": message, **codes, **(headers or {})})
