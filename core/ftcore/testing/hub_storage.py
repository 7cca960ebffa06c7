"""What a `FakeHub` stores: repositories with branches, commits, and LFS objects; nothing of it knows HTTP."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

LFS_OVER = 10_000_000
"""Files of more bytes than this are LFS objects, whatever they hold."""

_LFS_ENDINGS = (".safetensors", ".bin", ".pt", ".gguf", ".onnx", ".parquet", ".zip")
_ATTRIBUTES = "".join(f"*{ending} filter=lfs diff=lfs merge=lfs -text\n" for ending in _LFS_ENDINGS).encode()


class BadCommit(ValueError):
    """The commit names what is not there; the message goes to the client."""


@dataclass(frozen=True)
class StoredFile:
    """A file of a commit.

    Attributes:
        content: its bytes; of an LFS file the object's bytes, not the pointer's.
        lfs: whether it was uploaded through LFS.
    """

    content: bytes
    lfs: bool

    @property
    def git_oid(self) -> str:
        """The git blob id: of the content, or of the pointer that git holds instead."""
        data = self.content
        if self.lfs:
            data = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(data)}\n".encode()
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def etag(self) -> str:
        """What the client compares: the content's SHA-256 with LFS, else the git blob id."""
        return self.sha256 if self.lfs else self.git_oid


@dataclass(frozen=True)
class Commit:
    """One commit: its id, its message and all files as they are then, by path."""

    oid: str
    message: str
    files: Mapping[str, StoredFile]


@dataclass
class Repository:
    """A repository of a model or a dataset.

    Attributes:
        id: `namespace/name`.
        private: whether only its owners may see it.
        branches: the commits of each branch, oldest first.
        objects: LFS objects by SHA-256, committed or not.
    """

    id: str
    private: bool
    branches: dict[str, list[Commit]] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.branches:
            self.branches["main"] = []
            self._append("main", "initial commit", {".gitattributes": StoredFile(_ATTRIBUTES, lfs=False)})

    def find(self, revision: str) -> Commit | None:
        """The commit that a branch, or a commit's id, names."""
        if revision in self.branches:
            return self.branches[revision][-1]
        return next((commit for log in self.branches.values() for commit in log if commit.oid == revision), None)

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """The content of each file, by path.

        Raises:
            KeyError: there is no such branch or commit.
        """
        commit = self.find(revision)
        if commit is None:
            raise KeyError(revision)
        return {path: file.content for path, file in commit.files.items()}

    def add(self, files: Mapping[str, bytes], message: str = "add files") -> Commit:
        """Add files, by path, in a commit on the main branch."""
        added = {path: StoredFile(content, lfs=False) for path, content in files.items()}
        return self._append("main", message, {**self.branches["main"][-1].files, **added})

    def upload_modes(self, revision: str, files: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """How each file that a client announces is to be uploaded, and the id of what lies there now."""
        commit = self.find(revision)
        known = commit.files if commit else {}
        answer = []
        for file in files:
            binary = b"\0" in base64.b64decode(file["sample"])
            lfs = file["size"] > LFS_OVER or binary or file["path"].endswith(_LFS_ENDINGS)
            oid = known[file["path"]].etag if file["path"] in known else None
            mode = "lfs" if lfs else "regular"
            answer.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return answer

    def commit(self, branch: str, body: bytes) -> Commit:
        """Add a commit from the newline-delimited JSON that a client sends.

        Raises:
            BadCommit: it names an LFS object that was not uploaded, or deletes what is not there.
        """
        files = dict(self.branches[branch][-1].files)
        message = ""
        for line in body.splitlines():
            item = json.loads(line)
            kind, value = item["key"], item["value"]
            if kind == "header":
                message = value["summary"]
            elif kind == "file":
                files[value["path"]] = StoredFile(base64.b64decode(value["content"]), lfs=False)
            elif kind == "lfsFile":
                if value["oid"] not in self.objects:
                    raise BadCommit(f"LFS pointer points to a file that does not exist: {value['path']}")
                files[value["path"]] = StoredFile(self.objects[value["oid"]], lfs=True)
            elif kind == "deletedFile":
                if files.pop(value["path"], None) is None:
                    raise BadCommit(f"A file with this name doesn't exist: {value['path']}")
            else:
                raise BadCommit(f"unknown operation {kind}")
        return self._append(branch, message, files)

    def _append(self, branch: str, message: str, files: Mapping[str, StoredFile]) -> Commit:
        log = self.branches[branch]
        seed = "\n".join([branch, str(len(log)), message, *(f"{path} {files[path].etag}" for path in sorted(files))])
        oid = hashlib.sha1(seed.encode(), usedforsecurity=False).hexdigest()
        commit = Commit(oid, message, files)
        log.append(commit)
        return commit
