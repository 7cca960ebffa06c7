"""What a `FakeHub` answers: one function for each address of the Hub's API that the client uses."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote

from ftcore.testing.hub_storage import BadCommit, Repository

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
    """What the Hub knows: its own address, repositories by id, tokens, and the upload tickets it gave out."""

    url: str
    repos: dict[str, Repository] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    tickets: dict[str, tuple[Repository, str]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)


def answer(hub: State, method: str, path: str, credentials: str, body: bytes) -> Answer:
    """The answer to one request; `credentials` is its Authorization header."""
    token = hub.tokens.get(credentials.removeprefix("Bearer ")) if credentials else None
    if credentials and token is None:
        return refusal(401, "Invalid credentials in Authorization header")
    for methods, pattern, route in _ROUTES:
        match = re.fullmatch(pattern, path)
        if match and method in methods:
            parts = {name: unquote(value) for name, value in match.groupdict().items() if value is not None}
            with hub.lock:
                return route(hub, token, parts, body)
    return refusal(404, "Sorry, we can't find the page you are looking for.")


def _whoami(hub: State, token: Token | None, parts: Mapping[str, str], body: bytes) -> Answer:
    if token is None:
        return refusal(401, "Invalid username or password.")
    access: dict[str, Any] = {"displayName": "test", "role": token.role}
    if token.role == "fineGrained":
        scopes = [
            {"entity": {"name": name}, "permissions": ["repo.content.read", "repo.write"]} for name in token.writes
        ]
        access["fineGrained"] = {"canReadGatedRepos": False, "global": [], "scoped": scopes}
    orgs = [{"type": "org", "name": name, "roleInOrg": "write"} for name in token.orgs]
    auth = {"type": "access_token", "accessToken": access}
    return _json({"type": "user", "name": token.user, "fullname": token.user, "orgs": orgs, "auth": auth})


def _create(hub: State, token: Token | None, parts: Mapping[str, str], body: bytes) -> Answer:
    if token is None:
        return refusal(401, "Invalid username or password.")
    wanted = json.loads(body)
    namespace = wanted.get("organization") or token.user
    repo_id = f"{namespace}/{wanted['name']}"
    if token.role == "read" or (token.role == "fineGrained" and not token.may_write(repo_id)):
        return refusal(403, "You don't have the rights to create a model with this token")
    known = {name for owner in hub.tokens.values() for name in (owner.user, *owner.orgs)}
    if namespace not in known:
        return refusal(404, f"There is no user or organization named {namespace}")
    if not token.owns(repo_id):
        return refusal(403, f'You don\'t have the rights to create a model under the namespace "{namespace}"')
    url = f"{hub.url}/{repo_id}"
    if repo_id in hub.repos:
        return _json({"error": "You already created this model repo", "url": url, "name": repo_id}, 409)
    private = wanted.get("visibility") == "private" or wanted.get("private") is True
    hub.repos[repo_id] = Repository(repo_id, private)
    return _json({"url": url, "name": repo_id, "id": repo_id})


def _info(hub: State, token: Token | None, parts: Mapping[str, str], body: bytes) -> Answer:
    found = _visible(hub, token, parts)
    if isinstance(found, Answer):
        return found
    commit = found.find(parts.get("revision", "main"))
    if commit is None:
        return refusal(404, "Invalid rev id", "RevisionNotFound")
    siblings = [{"rfilename": path} for path in sorted(commit.files)]
    facts = {"id": found.id, "modelId": found.id, "private": found.private, "sha": commit.oid}
    return _json({**facts, "siblings": siblings, "tags": [], "downloads": 0, "likes": 0})


def _tree(hub: State, token: Token | None, parts: Mapping[str, str], body: bytes) -> Answer:
    found = _visible(hub, token, parts)
    if isinstance(found, Answer):
        return found
    commit = found.find(parts["revision"])
    if commit is None:
        return refusal(404, "Invalid rev id", "RevisionNotFound")
    entries: list[dict[str, Any]] = []
    for path, file in sorted(commit.files.items()):
        size = len(file.content)
        entry = {"type": "file", "path": path, "oid": file.git_oid, "size": size}
        entries.append(entry | ({"lfs": {"oid": file.sha256, "size": size, "pointerSize": 130}} if file.lfs else {}))
    return _json(entries)


def _branch(hub: State, token: Token | None, parts: Mapping[str, str], body: bytes) -> Answer:
    found = _writable(hub, token, parts)
    if isinstance(found, Answer):
        return found
    if parts["revision"] in found.branches:
        return refusal(409, "Reference already exists")
    found.branches[parts["revision"]] = list(found.branches["main"])
    return _json({})


def _preupload(hub: State, token: Token | None, parts: Mapping[str, str], body: bytes) -> Answer:
    found = _writable(hub, token, parts)
    if isinstance(found, Answer):
        return found
    if parts["revision"] not in found.branches:
        return refusal(404, "Invalid rev id", "RevisionNotFound")
    return _json({"files": found.upload_modes(parts["revision"], json.loads(body)["files"])})


def _lfs_batch(hub: State, token: Token | None, parts: Mapping[str, str], body: bytes) -> Answer:
    found = _writable(hub, token, parts)
    if isinstance(found, Answer):
        return found
    objects = []
    for wanted in json.loads(body)["objects"]:
        if wanted["oid"] not in found.objects:
            # As on the Hub, the storage takes no bearer token: the address itself carries the permission.
            ticket = secrets.token_hex(16)
            hub.tickets[ticket] = (found, wanted["oid"])
            verify = f"{hub.url}/{found.id}.git/info/lfs/verify"
            wanted = {**wanted, "actions": {"upload": {"href": f"{hub.url}/_storage/{ticket}"}}}
            wanted["actions"]["verify"] = {"href": verify}
        objects.append(wanted)
    return _json({"transfer": "basic", "objects": objects})


def _lfs_put(hub: State, token: Token | None, parts: Mapping[str, str], body: bytes) -> Answer:
    if parts["ticket"] not in hub.tickets:
        return refusal(403, "Request has expired")
    found, oid = hub.tickets[parts["ticket"]]
    if hashlib.sha256(body).hexdigest() != oid:
        return refusal(400, "XAmzContentSHA256Mismatch")
    found.objects[oid] = body
    return Answer(200, headers={"ETag": f'"{oid}"'})


def _lfs_verify(hub: State, token: Token | None, parts: Mapping[str, str], body: bytes) -> Answer:
    found = _writable(hub, token, parts)
    if isinstance(found, Answer):
        return found
    wanted = json.loads(body)
    if len(found.objects.get(wanted["oid"], b"")) != wanted["size"]:
        return refusal(404, "Object not found")
    return _json({})


def _commit(hub: State, token: Token | None, parts: Mapping[str, str], body: bytes) -> Answer:
    found = _writable(hub, token, parts)
    if isinstance(found, Answer):
        return found
    if parts["revision"] not in found.branches:
        return refusal(404, "Invalid rev id", "RevisionNotFound")
    try:
        commit = found.commit(parts["revision"], body)
    except BadCommit as error:
        return refusal(400, str(error))
    url = f"{hub.url}/{found.id}/commit/{commit.oid}"
    return _json({"success": True, "commitOid": commit.oid, "commitUrl": url, "hookOutput": ""})


def _validate_yaml(hub: State, token: Token | None, parts: Mapping[str, str], body: bytes) -> Answer:
    problems = _card_problems(json.loads(body)["content"])
    errors = [{"message": problem} for problem in problems]
    return _json({"errors": errors, "warnings": []}, 400 if errors else 200)


def _resolve(hub: State, token: Token | None, parts: Mapping[str, str], body: bytes) -> Answer:
    found = _visible(hub, token, parts)
    if isinstance(found, Answer):
        return found
    commit = found.find(parts["revision"])
    if commit is None:
        return refusal(404, "Invalid rev id", "RevisionNotFound")
    file = commit.files.get(parts["path"])
    if file is None:
        return refusal(404, "Entry not found", "EntryNotFound", {"X-Repo-Commit": commit.oid})
    headers = {"ETag": f'"{file.etag}"', "X-Repo-Commit": commit.oid, "Content-Type": "application/octet-stream"}
    return Answer(200, file.content, headers)


def _visible(hub: State, token: Token | None, parts: Mapping[str, str]) -> Repository | Answer:
    repo = hub.repos.get(parts["repo"])
    if repo is None or (repo.private and not (token and token.owns(repo.id))):
        # The Hub does not tell a stranger whether a private repository exists.
        return refusal(404 if token else 401, "Repository not found", "RepoNotFound")
    return repo


def _writable(hub: State, token: Token | None, parts: Mapping[str, str]) -> Repository | Answer:
    found = _visible(hub, token, parts)
    if isinstance(found, Repository) and not (token and token.may_write(found.id)):
        return refusal(403, "you must use a write token to upload to a repository.")
    return found


_REPO = r"(?P<repo>[^/]+/[^/]+)"
_API = rf"/api/models/{_REPO}"
_REVISION = r"(?P<revision>[^/]+)"
_ROUTES: list[tuple[tuple[str, ...], str, Callable[[State, Token | None, Mapping[str, str], bytes], Answer]]] = [
    (("GET",), "/api/whoami-v2", _whoami),
    (("POST",), "/api/repos/create", _create),
    (("POST",), "/api/validate-yaml", _validate_yaml),
    (("GET",), _API, _info),
    (("GET",), rf"{_API}/revision/{_REVISION}", _info),
    (("GET",), rf"{_API}/tree/{_REVISION}", _tree),
    (("POST",), rf"{_API}/branch/{_REVISION}", _branch),
    (("POST",), rf"{_API}/preupload/{_REVISION}", _preupload),
    (("POST",), rf"{_API}/commit/{_REVISION}", _commit),
    (("POST",), rf"/{_REPO}\.git/info/lfs/objects/batch", _lfs_batch),
    (("POST",), rf"/{_REPO}\.git/info/lfs/verify", _lfs_verify),
    (("PUT",), "/_storage/(?P<ticket>[0-9a-f]+)", _lfs_put),
    (("GET", "HEAD"), rf"/{_REPO}/resolve/{_REVISION}/(?P<path>.+)", _resolve),
]


def _json(value: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


def refusal(status: int, message: str, code: str = "", headers: Mapping[str, str] | None = None) -> Answer:
    codes = {"X-Error-Code": code} if code else {}
    answer = _json({"error": message}, status)
    return Answer(status, answer.body, {**answer.headers, "X-Error-Message": message, **codes, **(headers or {})})


def _card_problems(card: str) -> list[str]:
    """What the Hub says against a model card's front matter; it needs PyYAML, which the client brings."""
    import yaml  # type: ignore[import-untyped]

    if not card.startswith("---\n"):
        return []
    head, closed, _ = card[4:].partition("\n---")
    if not closed:
        return ["the front matter is not closed"]
    try:
        facts = yaml.safe_load(head)
    except yaml.YAMLError as error:
        return [f"bad YAML: {error}"]
    if not isinstance(facts, dict):
        return ["the front matter must be a mapping"]
    base = facts.get("base_model")
    if base is not None and not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(base)):
        return ['"base_model" with value "' + str(base) + '" is not valid. Use a model id']
    return []
