"""The section `[hub]`."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from ftcore.settings.base import Section

_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_BRANCH = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._/-]*[A-Za-z0-9_])?")


class HubSettings(Section):
    """Where the saver `hub` pushes the trained model. The access token is no setting: it comes from `HF_TOKEN`."""

    repo_id: str | None = None
    """The repository: `namespace/name`, or a `name` of your own. Null takes the run's name, under the user that the token belongs to."""

    private: bool = True
    """Only you, or your organization, see the repository. A repository that is already there keeps its visibility; one that is public, while this is true, is an error."""

    revision: str | None = None
    """The branch to push to; made if it does not exist. Null means `main`."""

    endpoint: str | None = None
    """The Hub's address. Null takes the environment variable `HF_ENDPOINT`, else https://huggingface.co."""

    pushes: Literal["adapter", "merged"] = "adapter"
    """What is pushed: `adapter`, what was trained (with `full_finetuning`, the whole model), or `merged`, the model that the saver `merged` writes, which has to stand before `hub` in `[stages] savers`."""

    commit_message: Annotated[str, Field(min_length=1)] | None = None
    """The message of the commit. Null names the run."""

    timeout: Annotated[float, Field(gt=0)] = 300.0
    """How many seconds the Hub may take for one answer before the request is repeated."""

    @field_validator("repo_id")
    @classmethod
    def _repo_id(cls, value: str | None) -> str | None:
        for name in (value or "").split("/") if value is not None else ():
            if reason := unusable(name):
                raise ValueError(f"a repository is written namespace/name or name, and {reason}")
        if value is not None and value.count("/") > 1:
            raise ValueError("a repository is written namespace/name or name, with one slash at most")
        return value

    @field_validator("revision")
    @classmethod
    def _revision(cls, value: str | None) -> str | None:
        if value is not None and (not _BRANCH.fullmatch(value) or ".." in value or "//" in value):
            raise ValueError("a branch has letters, digits, '.', '_', '-' and '/', and no '..' or '//'")
        return value

    @field_validator("endpoint")
    @classmethod
    def _endpoint(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("the Hub's address begins with https:// or http:// and names a host")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("the Hub's address holds no user, password or query; the token comes from HF_TOKEN")
        return value.rstrip("/")


def unusable(name: str) -> str:
    """Why a text cannot be a name on the Hub, or ""."""
    if not name:
        return "a part of it is empty"
    if not _NAME.fullmatch(name):
        return f"'{name[:40]}' has other characters than letters, digits, '.', '_' and '-', more than 96, or '.' or '-' at an end"
    if ".." in name or "--" in name or name.endswith(".git"):
        return f"'{name[:40]}' contains '..' or '--', or ends with '.git'"
    return ""
