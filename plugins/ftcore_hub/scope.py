"""What an access token may do, as the Hub's answer to "who am I" tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_WRITES = "repo.write"


def objection(me: Mapping[str, Any], repo_id: str) -> str:
    """Why the token behind an answer cannot write to a repository (`namespace/name`), or "".

    Args:
        me: the Hub's answer: the user, the organizations with the user's role in each, and the token's role; of a
            fine-grained token also what it may do, and where.
    """
    user, namespace = str(me.get("name", "")), repo_id.partition("/")[0]
    access = me.get("auth", {}).get("accessToken", {})
    if access.get("role") == "read":
        return f"the token of {user} can only read"
    roles = {str(org.get("name")): org.get("roleInOrg") for org in me.get("orgs", ())}
    if namespace != user and namespace not in roles:
        return f"the token of {user} may not write to {repo_id}: {namespace} is neither {user} nor an organization of theirs"
    if roles.get(namespace) == "read":
        return f"{user} may only read in the organization {namespace}"
    if access.get("role") == "fineGrained" and not _granted(access.get("fineGrained", {}), repo_id):
        return f"the fine-grained token of {user} has no permission to write to {repo_id}"
    return ""


def _granted(grants: Mapping[str, Any], repo_id: str) -> bool:
    return any(
        _WRITES in permissions and name in (repo_id, repo_id.partition("/")[0]) for name, permissions in _scopes(grants)
    )


def _scopes(grants: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Each user, organization or repository that the token is good for, with what it may do there."""
    for scope in grants.get("scoped", ()):
        yield str(scope.get("entity", {}).get("name", "")), list(scope.get("permissions", ()))
