"""What a `FakeHub` answers: one function for each address of the Hub's API that the client uses."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote

from ftcore.testing.hub_answers import Answer, State, Token, as_json, refusal
from ftcore.testing.hub_storage import BadCommit, Commit, Repository


def answer(hub: State, method: str, path: str, credentials: str, body: bytes, query: str = "") -> Answer:
    """The answer to one request; `credentials` is its Authorization header, `query` what stands behind the path's `?`."""
    token = hub.tokens.get(credentials.removeprefix("Bearer ")) if credentials else None
    if credentials and token is None:
        return refusal(401, "Invalid credentials in Authorization header")
    for methods, pattern, route in _ROUTES:
        match = re.fullmatch(pattern, path)
        if match and method in methods:
            parts = {name: unquote(value) for name, value in match.groupdict().items() if value is not None}
            parts["query"] = query
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
    return as_json({"type": "user", "name": token.user, "fullname": token.user, "orgs": orgs, "auth": auth})


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
        return as_json({"error": "You already created this model repo", "url": url, "name": repo_id}, 409)
    private = wanted.get("visibility") == "private" or wanted.get("private") is True
    hub.repos[repo_id] = Repository(repo_id, private)
    return as_json({"url": url, "name": repo_id, "id": repo_id})


def _info(hub: State, token: Token | None, parts: Mapping[str, str], body: bytes) -> Answer:
    found = _visible(hub, token, parts)
    if isinstance(found, Answer):
        return found
    commit = found.find(parts.get("revision", "main"))
    if commit is None:
        return refusal(404, "Invalid rev id", "RevisionNotFound")
    siblings = [{"rfilename": path} for path in sorted(commit.files)]
    facts = {"id": found.id, "modelId": found.id, "private": found.private, "sha": commit.oid}
    return as_json({**facts, "siblings": siblings, "tags": [], "downloads": 0, "likes": 0})


def _revision(hub: State, token: Token | None, parts: Mapping[str, str]) -> Commit | Answer:
    found = _visible(hub, token, parts)
    if isinstance(found, Answer):
        return found
    return found.find(parts["revision"]) or refusal(404, "Invalid rev id", "RevisionNotFound")


def _tree(hub: State, token: Token | None, parts: Mapping[str, str], body: bytes) -> Answer:
    commit = _revision(hub, token, parts)
    if isinstance(commit, Answer):
        return commit
    folder, whole = parts.get("path", ""), "recursive=true" in parts["query"].lower()
    below = [entry for entry in _entries(commit) if entry["path"].startswith(f"{folder}/" if folder else "")]
    depth = folder.count("/") + 1 if folder else 0
    inside = below if whole else [entry for entry in below if entry["path"].count("/") == depth]
    return as_json(inside) if inside or not folder else refusal(404, "Entry not found", "EntryNotFound")


def _paths_info(hub: State, token: Token | None, parts: Mapping[str, str], body: bytes) -> Answer:
    commit = _revision(hub, token, parts)
    if isinstance(commit, Answer):
        return commit
    text = body.decode()
    asked = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text).get("paths", [])
    return as_json([entry for entry in _entries(commit) if entry["path"] in asked])


def _entries(commit: Commit) -> list[dict[str, Any]]:
    """Files and folders of a commit, as the Hub describes them."""
    entries: list[dict[str, Any]] = []
    for path, file in sorted(commit.files.items()):
        size = len(file.content)
        entry = {"type": "file", "path": path, "oid": file.git_oid, "size": size}
        entries.append(entry | ({"lfs": {"oid": file.sha256, "size": size, "pointerSize": 130}} if file.lfs else {}))
    folders = {parent for path in commit.files for parent in _parents(path)}
    return entries + [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in sorted(folders)]


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]


def _branch(hub: State, token: Token | None, parts: Mapping[str, str], body: bytes) -> Answer:
    found = _writable(hub, token, parts)
    if isinstance(found, Answer):
        return found
    if parts["revision"] in found.branches:
        return refusal(409, "Reference already exists")
    found.branches[parts["revision"]] = list(found.branches["main"])
    return as_json({})


def _preupload(hub: State, token: Token | None, parts: Mapping[str, str], body: bytes) -> Answer:
    found = _writable(hub, token, parts)
    if isinstance(found, Answer):
        return found
    if parts["revision"] not in found.branches:
        return refusal(404, "Invalid rev id", "RevisionNotFound")
    return as_json({"files": found.upload_modes(parts["revision"], json.loads(body)["files"])})


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
    return as_json({"transfer": "basic", "objects": objects})


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
    return as_json({})


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
    return as_json({"success": True, "commitOid": commit.oid, "commitUrl": url, "hookOutput": ""})


def _validate_yaml(hub: State, token: Token | None, parts: Mapping[str, str], body: bytes) -> Answer:
    problems = _card_problems(json.loads(body)["content"])
    errors = [{"message": problem} for problem in problems]
    return as_json({"errors": errors, "warnings": []}, 400 if errors else 200)


def _resolve(hub: State, token: Token | None, parts: Mapping[str, str], body: bytes) -> Answer:
    commit = _revision(hub, token, parts)
    if isinstance(commit, Answer):
        return commit
    file = commit.files.get(parts["path"])
    if file is None:
        return refusal(404, "Entry not found", "EntryNotFound", {"X-Repo-Commit": commit.oid})
    headers = {"ETag": f'"{file.etag}"', "X-Repo-Commit": commit.oid, "Content-Type": "application/octet-stream"}
    return Answer(200, file.content, headers)


def _visible(hub: State, token: Token | None, parts: Mapping[str, str]) -> Repository | Answer:
    repo = (hub.datasets if parts.get("kind") == "datasets" else hub.repos).get(parts["repo"])
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
_READ = "/api/(?P<kind>models|datasets)/(?P<repo>[^/]+(?:/[^/]+)?)"
_REVISION = r"(?P<revision>[^/]+)"
_ROUTES: list[tuple[tuple[str, ...], str, Callable[[State, Token | None, Mapping[str, str], bytes], Answer]]] = [
    (("GET",), "/api/whoami-v2", _whoami),
    (("POST",), "/api/repos/create", _create),
    (("POST",), "/api/validate-yaml", _validate_yaml),
    (("GET",), _READ, _info),
    (("GET",), rf"{_READ}/revision/{_REVISION}", _info),
    (("GET",), rf"{_READ}/tree/{_REVISION}(?:/(?P<path>.+))?", _tree),
    (("POST",), rf"{_READ}/paths-info/{_REVISION}", _paths_info),
    (("POST",), rf"{_API}/branch/{_REVISION}", _branch),
    (("POST",), rf"{_API}/preupload/{_REVISION}", _preupload),
    (("POST",), rf"{_API}/commit/{_REVISION}", _commit),
    (("POST",), rf"/{_REPO}\.git/info/lfs/objects/batch", _lfs_batch),
    (("POST",), rf"/{_REPO}\.git/info/lfs/verify", _lfs_verify),
    (("PUT",), "/_storage/(?P<ticket>[0-9a-f]+)", _lfs_put),
    (("GET", "HEAD"), rf"/(?P<kind>datasets)/(?P<repo>[^/]+(?:/[^/]+)?)/resolve/{_REVISION}/(?P<path>.+)", _resolve),
    (("GET", "HEAD"), rf"/{_REPO}/resolve/{_REVISION}/(?P<path>.+)", _resolve),
]


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
