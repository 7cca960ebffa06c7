"""Pushing a folder to a model repository, with patience."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ftcore_hub.refusal import Refusal, explain, is_transient, wait_asked_for
from ftcore_hub.scope import objection
from ftcore_hub.settings import HubSettings

T = TypeVar("T")

PAUSES = (2.0, 4.0, 8.0, 16.0)
"""Seconds between the tries of one step; after the last one the step is given up."""

DEFAULT_ENDPOINT = "https://huggingface.co"


@dataclass(frozen=True)
class Destination:
    """Where a model goes.

    Attributes:
        endpoint: the Hub's address, without a slash at the end.
        repo_id: `namespace/name`.
        branch: the branch, "main" unless configured.
    """

    endpoint: str
    repo_id: str
    branch: str

    @property
    def url(self) -> str:
        """The page that shows what was pushed."""
        page = f"{self.endpoint}/{self.repo_id}"
        return page if self.branch == "main" else f"{page}/tree/{self.branch}"


def endpoint_of(settings: HubSettings) -> str:
    """The Hub's address in force."""
    return (settings.endpoint or os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")


@dataclass(frozen=True)
class Hub:
    """A Hub as one token sees it.

    Attributes:
        settings: the section `[hub]`.
        token: the access token.
        warn: told about every try that failed and will be repeated.
        pauses: seconds between the tries of one step.
    """

    settings: HubSettings
    token: str = field(repr=False)
    warn: Callable[[str], None]
    pauses: tuple[float, ...] | None = None

    def preflight(self, run_name: str) -> Destination:
        """Ask whose token this is, and whether it can write at all.

        It takes one request and changes nothing.

        Raises:
            Refusal: the token is unknown or read-only, or the Hub cannot be reached.
        """
        return self._destination(run_name, self._who_am_i(run_name))

    def rehearse(self, run_name: str) -> Destination:
        """Look long before there is a model whether pushing it could go well; changes nothing.

        Raises:
            Refusal: it could not: the token is unknown, or may not write there, or the repository is public and should
                not be. Or the Hub cannot be reached now (`passing`).
        """
        me = self._who_am_i(run_name)
        to = self._destination(run_name, me)
        if reason := objection(me, to.repo_id):
            raise Refusal(
                reason, f"Set HF_TOKEN to one that can write there ({to.endpoint}/settings/tokens), or repo_id in [hub]"
            )
        private = self._private(to.repo_id)
        if private is not None:
            self._look_at_visibility(private, to.repo_id)
        return to

    def _who_am_i(self, run_name: str) -> Any:
        with self._refusals(self.settings.repo_id or run_name):
            return self._patiently(self._client().whoami)

    def _destination(self, run_name: str, me: Any) -> Destination:
        endpoint = endpoint_of(self.settings)
        name = self.settings.repo_id or run_name
        if me.get("auth", {}).get("accessToken", {}).get("role") == "read":
            raise Refusal(
                f"the token of {me['name']} can only read",
                f"Make one that can write at {endpoint}/settings/tokens and set HF_TOKEN",
            )
        return Destination(endpoint, name if "/" in name else f"{me['name']}/{name}", self.settings.revision or "main")

    def _private(self, repo_id: str) -> bool | None:
        """Whether the repository is private; None where there is none yet."""
        from huggingface_hub.errors import RepositoryNotFoundError

        with self._refusals(repo_id):
            try:
                return bool(self._patiently(lambda: self._client().model_info(repo_id)).private)
            except RepositoryNotFoundError:
                return None

    def push(self, folder: Path, to: Destination, message: str) -> None:
        """Create repository and branch where they are missing, and upload the folder's files in a commit.

        Files that the repository has already are not sent again, and files that the folder does not have stay.

        Raises:
            Refusal: the Hub did not take it, or the repository is public and should not be.
        """
        with self._refusals(to.repo_id):
            api = self._client()
            self._patiently(lambda: self._create(api, to))
            self._look_at_visibility(self._patiently(lambda: api.model_info(to.repo_id)).private, to.repo_id)
            self._patiently(
                lambda: api.upload_folder(
                    repo_id=to.repo_id, folder_path=folder, revision=to.branch, commit_message=message
                )
            )

    def _client(self) -> Any:
        from huggingface_hub import HfApi

        return HfApi(endpoint=endpoint_of(self.settings), token=self.token, library_name="ftcore")

    def _create(self, api: Any, to: Destination) -> None:
        api.create_repo(to.repo_id, private=self.settings.private, exist_ok=True)
        if to.branch != "main":
            api.create_branch(to.repo_id, branch=to.branch, exist_ok=True)

    def _look_at_visibility(self, private: bool, repo_id: str) -> None:
        if self.settings.private and not private:
            raise Refusal(
                f"{repo_id} exists and is public, and [hub] private is true",
                "Set private = false in [hub], or choose another repo_id",
            )
        if private and not self.settings.private:
            self.warn(f"{repo_id} exists and is private; it stays so, although [hub] private is false")

    @contextmanager
    def _refusals(self, repo_id: str) -> Iterator[None]:
        import httpx

        try:
            yield
        except Refusal:
            raise
        except (httpx.HTTPError, OSError, ValueError, RuntimeError) as error:
            raise explain(error, repo_id, endpoint_of(self.settings), self.token) from error

    def _patiently(self, step: Callable[[], T]) -> T:
        """Run a step; again after a pause, as often as there are pauses, where the error may pass."""
        pauses = PAUSES if self.pauses is None else self.pauses
        for number, pause in enumerate((*pauses, None), 1):
            try:
                with _time_limit(self.settings.timeout):
                    return step()
            except Exception as error:
                if pause is None or not is_transient(error):
                    raise
                seconds = max(pause, wait_asked_for(error))
                why = explain(error, "the repository", endpoint_of(self.settings), self.token).why
                self.warn(f"{why}; try {number + 1} of {len(pauses) + 1} in {seconds:.0f} s")
                time.sleep(seconds)
        raise AssertionError("the last try returns or raises")


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Bound the wait for each answer: the client itself waits forever, and nobody watches the end of a long run."""
    from huggingface_hub.utils import get_session

    session = get_session()
    before, session.timeout = session.timeout, seconds
    try:
        yield
    finally:
        session.timeout = before
