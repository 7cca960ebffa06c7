"""The saver `hub`, against a Hub on loopback and with the real `huggingface_hub` client."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from ftcore import config as configs
from ftcore import files
from ftcore.contracts import Saved
from ftcore.errors import InvalidConfig, Problem, SaveError
from ftcore.plugins import Plugins, discover
from ftcore.run import runs
from ftcore.testing.hub import FakeHub
from ftcore.testing.hub_storage import LFS_OVER, Repository

OLD_UPLOAD = "Use 'content=<...>' to upload raw bytes/text content."
"""The client uploads LFS files by an argument that httpx would have under another name."""

pytestmark = pytest.mark.filterwarnings(f"ignore:{OLD_UPLOAD}:DeprecationWarning")

TOKEN = "hf_WriteTokenOfAda0123456789"
READ_ONLY = "hf_ReadTokenOfAda9876543210"
CARD = "---\nlibrary_name: peft\nbase_model: acme/base\ntags:\n- ftcore\n---\n# A model\n"


@dataclass
class TrainedFolder:
    """What a saver sees of a trained model, with the files that it shall consist of."""

    contents: dict[str, bytes]
    kind: str = "adapter"
    base_model_id: str = "acme/base"
    metrics: dict[str, float] = field(default_factory=dict)
    model: Any = None
    tokenizer: Any = None
    exports: int = 0

    def export(self, folder: Path) -> Path:
        self.exports += 1
        with files.whole_folder(folder) as scratch:
            for name, content in self.contents.items():
                (scratch / name).parent.mkdir(parents=True, exist_ok=True)
                (scratch / name).write_bytes(content)
        return folder


def adapter(**more: bytes) -> TrainedFolder:
    contents = {"README.md": CARD.encode(), "adapter_config.json": b"{}", "adapter_model.safetensors": b"\0weights"}
    return TrainedFolder(contents | more)


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with no token and no cache, that neither waits long between tries nor uploads through Xet."""
    import huggingface_hub.constants

    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING_FACE_", "TRANSFORMERS_OFFLINE"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("ftcore_hub.push.PAUSES", (0.01, 0.02, 0.03, 0.04))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub() as server:
        server.add_token(TOKEN, "ada", orgs=["acme"])
        server.add_token(READ_ONLY, "ada", "read", orgs=["acme"])
        server.add_token("hf_TokenOfGrace", "grace")
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return discover(disabled=[entry.name for entry in entry_points(group="ftcore") if entry.name != "hub"])


@pytest.fixture
def load(plugins: Plugins, tmp_path: Path) -> Callable[[str], configs.Config]:
    def load(more: str = "", fine_tuner: str = "push_to_hub = true") -> configs.Config:
        path = tmp_path / "config.toml"
        required = 'base_model_id = "acme/base"\ntraining_data_id = "acme/data"'
        path.write_text(f"[fine_tuner]\n{required}\n{fine_tuner}\n{more}\n", encoding="utf-8")
        return configs.load(path, plugins)

    return load


@dataclass
class Pushing:
    """A run that pushes, and everything that it said."""

    plugins: Plugins
    config: configs.Config
    run: runs.ActiveRun

    def __call__(self, trained: Any) -> Saved:
        from ftcore.settings.saving import SavingSettings

        saving = self.config.fine_tuner.view(SavingSettings)
        settings = self.config.section("hub")
        return self.plugins.expect(  # type: ignore[no-any-return]
            Saved, "ftcore_save", "hub", run=self.run, trained=trained, held_out=None, saving=saving, settings=settings
        )

    def error(self, trained: Any) -> str:
        """The message of the error that pushing ends with; the model must have survived it."""
        with pytest.raises(SaveError) as caught:
            self(trained)
        text = str(caught.value)
        assert caught.value.exit_code == 7
        assert "\n" not in text
        folder = self.run.dir / "model"
        assert {path.name for path in folder.iterdir()} == set(trained.contents)
        assert f"lies in {folder}" in text
        assert f"hf upload {self.repo_in(text)}" in text
        return text

    def repo_in(self, text: str) -> str:
        found = re.search(r"not pushed to (\S+):", text)
        assert found
        return found[1]

    @property
    def log(self) -> str:
        return (self.run.dir / "run.log").read_text(encoding="utf-8")


@pytest.fixture
def pushing(
    plugins: Plugins, load: Callable[..., configs.Config], capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Pushing]]:
    started: list[Pushing] = []

    def pushing(hub_section: str = "", name: str = "llama-qa") -> Pushing:
        config = load(f"[hub]\n{hub_section}")
        run = runs.create(config, plugins, [], name, datetime(2026, 11, 23, tzinfo=UTC))
        started.append(Pushing(plugins, config, run))
        return started[-1]

    yield pushing
    printed = "".join(capfd.readouterr())
    for one in started:
        one.run.close()
        for secret in (TOKEN, READ_ONLY):
            assert secret not in one.log
            assert secret not in printed


def downloaded(hub: FakeHub, repo_id: str, folder: Path, revision: str = "main") -> dict[str, bytes]:
    """The repository's files as the client downloads them, without the Hub's own .gitattributes."""
    from huggingface_hub import snapshot_download

    snapshot_download(
        repo_id, revision=revision, endpoint=hub.url, token=TOKEN, local_dir=folder, cache_dir=folder.parent / "cache"
    )
    paths = [path for path in folder.rglob("*") if path.is_file() and ".cache" not in path.parts]
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    assert found.pop(".gitattributes")
    return found


# --- what arrives -----------------------------------------------------------------------------------------------------


def test_every_file_arrives_byte_for_byte_in_a_private_repository(
    hub: FakeHub, pushing: Callable[..., Pushing], tmp_path: Path
) -> None:
    big = os.urandom(LFS_OVER + 4321)
    trained = adapter(**{"big.safetensors": big, "tokenizer.json": b'{"a": "\xc3\xa9"}', "sub/empty.txt": b""})
    push = pushing()

    saved = push(trained)

    assert saved == Saved("pushed LoRA adapter", f"{hub.url}/ada/llama-qa")
    repo = hub.repos["ada/llama-qa"]
    assert repo.private
    assert downloaded(hub, "ada/llama-qa", tmp_path / "down") == trained.contents
    stored = repo.branches["main"][-1].files
    assert {path for path, file in stored.items() if file.lfs} == {"big.safetensors", "adapter_model.safetensors"}
    assert stored["README.md"].content.decode() == CARD
    assert repo.branches["main"][-1].message == "LoRA adapter of the ftcore run llama-qa"


def test_one_large_file_is_read_back_alone(hub: FakeHub, pushing: Callable[..., Pushing], tmp_path: Path) -> None:
    from huggingface_hub import hf_hub_download

    trained = adapter(weights=os.urandom(LFS_OVER + 1))
    pushing()(trained)

    path = hf_hub_download("ada/llama-qa", "weights", endpoint=hub.url, token=TOKEN, cache_dir=tmp_path / "cache")

    assert Path(path).read_bytes() == trained.contents["weights"]


def test_strangers_do_not_see_the_repository(hub: FakeHub, pushing: Callable[..., Pushing]) -> None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    pushing()(adapter())

    assert HfApi(endpoint=hub.url, token=READ_ONLY).model_info("ada/llama-qa").private
    for token in ("hf_TokenOfGrace", False):
        with pytest.raises(RepositoryNotFoundError):
            HfApi(endpoint=hub.url, token=token).model_info("ada/llama-qa")


def test_pushing_again_sends_nothing(hub: FakeHub, pushing: Callable[..., Pushing]) -> None:
    trained, push = adapter(), pushing()
    first = push(trained)
    commits, uploads = len(hub.repos["ada/llama-qa"].branches["main"]), hub.count("/_storage/", "PUT")
    assert uploads == 1

    second = push(trained)

    assert second == first
    assert len(hub.repos["ada/llama-qa"].branches["main"]) == commits
    assert hub.count("/_storage/", "PUT") == uploads
    assert trained.exports == 1


def test_pushing_again_sends_what_changed_and_keeps_what_others_added(
    hub: FakeHub, pushing: Callable[..., Pushing]
) -> None:
    from huggingface_hub import HfApi

    push = pushing()
    push(adapter())
    api = HfApi(endpoint=hub.url, token=TOKEN)
    api.upload_file(path_or_fileobj=b"by hand", path_in_repo="NOTES.md", repo_id="ada/llama-qa")
    (push.run.dir / "model/adapter_config.json").write_bytes(b'{"r": 8}')

    push(adapter())

    repo = hub.repos["ada/llama-qa"]
    assert repo.files()["adapter_config.json"] == b'{"r": 8}'
    assert repo.files()["NOTES.md"] == b"by hand"
    assert hub.count("/_storage/", "PUT") == 1


def test_a_resumed_run_exports_anew(hub: FakeHub, pushing: Callable[..., Pushing]) -> None:
    push = pushing()
    push(adapter())
    push.run.resumed = True

    push(adapter(**{"adapter_config.json": b'{"after": "resume"}'}))

    assert hub.repos["ada/llama-qa"].files()["adapter_config.json"] == b'{"after": "resume"}'


@pytest.mark.parametrize(
    ("section", "repo_id"),
    [
        ("", "ada/llama-qa"),
        ('repo_id = "null"', "ada/llama-qa"),
        ('repo_id = "chatty"', "ada/chatty"),
        ('repo_id = "acme/chatty.v1"', "acme/chatty.v1"),
    ],
)
def test_the_repository_is_the_configured_one(
    hub: FakeHub, pushing: Callable[..., Pushing], section: str, repo_id: str
) -> None:
    assert pushing(section)(adapter()).where == f"{hub.url}/{repo_id}"
    assert list(hub.repos) == [repo_id]


def test_public_where_configured(hub: FakeHub, pushing: Callable[..., Pushing]) -> None:
    pushing("private = false")(adapter())
    assert not hub.repos["ada/llama-qa"].private


def test_the_merged_model_where_configured(hub: FakeHub, pushing: Callable[..., Pushing], tmp_path: Path) -> None:
    push = pushing('pushes = "merged"')
    merged = {
        "config.json": b"{}",
        "model.safetensors": b"\0merged",
        "README.md": CARD.replace("peft", "transformers").encode(),
    }
    with pytest.raises(SaveError, match=r"there is no merged model in .*merged to push.*ftcore merge"):
        push(adapter())
    TrainedFolder(merged).export(push.run.dir / "merged")

    saved = push(adapter())

    assert saved == Saved("pushed merged model", f"{hub.url}/ada/llama-qa")
    assert downloaded(hub, "ada/llama-qa", tmp_path / "down") == merged


@pytest.mark.parametrize(
    ("savers", "fix"),
    [
        ('["local", "hub"]', 'Set savers = ["local", "merged", "hub"] in [stages]'),
        ('["local", "hub", "merged"]', 'Set savers = ["local", "merged", "hub"] in [stages]'),
        ('["merged", "hub"]', None),
    ],
)
def test_the_merged_model_has_to_be_there_before_it_is_pushed(
    savers: str, fix: str | None, hub: FakeHub, plugins: Plugins, load: Callable[..., configs.Config]
) -> None:
    found = problems(plugins, load(f'[hub]\npushes = "merged"\n[stages]\nsavers = {savers}'))
    assert [(problem.where, problem.fix) for problem in found] == ([("hub.pushes", fix)] if fix else [])
    full = load(f'[hub]\npushes = "merged"\n[stages]\nsavers = {savers}', "push_to_hub = true\nfull_finetuning = true")
    assert "there is no adapter to merge" in problems(plugins, full)[0].message


def test_branch_and_message_where_configured(hub: FakeHub, pushing: Callable[..., Pushing], tmp_path: Path) -> None:
    push = pushing('revision = "exp/one"\ncommit_message = "second try"')

    assert push(adapter()).where == f"{hub.url}/ada/llama-qa/tree/exp/one"

    repo = hub.repos["ada/llama-qa"]
    assert repo.branches["exp/one"][-1].message == "second try"
    assert set(repo.files("main")) == {".gitattributes"}
    assert downloaded(hub, "ada/llama-qa", tmp_path / "down", "exp/one") == adapter().contents


def test_the_endpoint_of_the_section_wins(
    hub: FakeHub, pushing: Callable[..., Pushing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert pushing(f'endpoint = "{hub.url}/"')(adapter()).where == f"{hub.url}/ada/llama-qa"


def test_the_token_of_a_login_serves_too(
    hub: FakeHub, pushing: Callable[..., Pushing], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "hf-home").mkdir()
    (tmp_path / "hf-home/token").write_text(TOKEN + "\n")
    push = pushing()
    hub.fail("/preupload/", 403, times=9, message=f"token {TOKEN} has no rights")

    assert TOKEN not in push.error(adapter())

    hub.repos.clear()
    with FakeHub() as other:
        other.add_token(TOKEN, "ada")
        monkeypatch.setenv("HF_ENDPOINT", other.url)
        push(adapter())
        assert "ada/llama-qa" in other.repos


def test_a_local_base_model_is_mentioned(hub: FakeHub, pushing: Callable[..., Pushing], tmp_path: Path) -> None:
    push = pushing()
    push(adapter(**{"adapter_config.json": f'{{"base_model_name_or_path": "{tmp_path}"}}'.encode()}))
    assert f"names its base model by a path of this machine ({tmp_path})" in push.log


# --- trouble ----------------------------------------------------------------------------------------------------------


def test_trouble_that_passes_is_waited_out(hub: FakeHub, pushing: Callable[..., Pushing], tmp_path: Path) -> None:
    hub.fail("/api/whoami-v2", 503)
    hub.fail("/api/repos/create", 429, message="slow down")
    hub.drop("/api/repos/create")
    hub.fail("/api/models/ada/llama-qa$", 500, times=2)
    hub.fail("/_storage/", 500)
    hub.fail("/commit/main", 502)
    push = pushing()

    push(adapter())

    assert downloaded(hub, "ada/llama-qa", tmp_path / "down") == adapter().contents
    assert hub.count("/api/repos/create") == 3
    assert hub.count("/commit/main") == 2
    assert "the Hub takes no more requests for now (429: slow down); try 2 of 5" in push.log
    assert "the Hub is in trouble (502" in push.log


def test_a_commit_whose_answer_was_lost_is_not_made_twice(hub: FakeHub, pushing: Callable[..., Pushing]) -> None:
    hub.drop("/commit/main", done_first=True)
    push = pushing()

    push(adapter())

    messages = [commit.message for commit in hub.repos["ada/llama-qa"].branches["main"]]
    assert messages == ["initial commit", "LoRA adapter of the ftcore run llama-qa"]
    assert hub.count("/preupload/") == 2
    assert "cannot be reached" in push.log


def test_an_answer_is_not_awaited_for_ever(hub: FakeHub, pushing: Callable[..., Pushing]) -> None:
    hub.delay("/api/whoami-v2", 300.0)
    push = pushing("timeout = 0.5")

    push(adapter())

    assert "cannot be reached (timed out)" in push.log


def test_the_wait_that_the_hub_asks_for_is_kept(hub: FakeHub, pushing: Callable[..., Pushing]) -> None:
    hub.fail("/api/repos/create", 429, headers={"Retry-After": "1"})
    push, started = pushing(), time.monotonic()

    push(adapter())

    assert time.monotonic() - started >= 1
    assert "in 1 s" in push.log


def test_patience_ends(hub: FakeHub, pushing: Callable[..., Pushing]) -> None:
    hub.fail("/api/repos/create", 503, times=100)
    assert "the Hub is in trouble (503" in pushing().error(adapter())
    assert hub.count("/api/repos/create") == 5


def test_forbidden_is_final(hub: FakeHub, pushing: Callable[..., Pushing]) -> None:
    hub.fail("/preupload/", 403, times=100, message=f"Authorization: Bearer {TOKEN} is not welcome")
    text = pushing().error(adapter())
    assert "the token may not write to ada/llama-qa (403: Authorization: Bearer *** is not welcome)" in text
    assert "or a repo_id in [hub] that is yours" in text
    assert TOKEN not in text
    assert hub.count("/preupload/") == 1


def test_a_read_only_token_is_refused_before_anything_is_sent(
    hub: FakeHub, pushing: Callable[..., Pushing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", READ_ONLY)
    text = pushing().error(adapter())
    assert "the token of ada can only read" in text
    assert f"{hub.url}/settings/tokens" in text
    assert [request.path for request in hub.requests] == ["/api/whoami-v2"]


def test_an_unknown_token(hub: FakeHub, pushing: Callable[..., Pushing], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_Nobody000000")
    text = pushing().error(adapter())
    assert f"{hub.url} does not accept the token" in text
    assert "hf_Nobody" not in text


def test_the_namespace_of_somebody_else(hub: FakeHub, pushing: Callable[..., Pushing]) -> None:
    text = pushing('repo_id = "grace/model"').error(adapter())
    assert "the token may not write to grace/model (403" in text


def test_the_repository_of_somebody_else(hub: FakeHub, pushing: Callable[..., Pushing]) -> None:
    hub.repos["grace/model"] = Repository("grace/model", private=False)
    text = pushing('repo_id = "grace/model"\nprivate = false').error(adapter())
    assert "the token may not write to grace/model (403" in text
    assert set(hub.repos["grace/model"].files()) == {".gitattributes"}


def test_a_namespace_that_does_not_exist(hub: FakeHub, pushing: Callable[..., Pushing]) -> None:
    text = pushing('repo_id = "nobody/model"').error(adapter())
    assert "no such namespace" in text
    assert "Check repo_id" in text


def test_a_public_repository_does_not_get_a_private_model(hub: FakeHub, pushing: Callable[..., Pushing]) -> None:
    hub.repos["ada/llama-qa"] = Repository("ada/llama-qa", private=False)
    assert "ada/llama-qa exists and is public, and [hub] private is true" in pushing().error(adapter())
    assert set(hub.repos["ada/llama-qa"].files()) == {".gitattributes"}


def test_a_private_repository_stays_private(hub: FakeHub, pushing: Callable[..., Pushing]) -> None:
    hub.repos["ada/llama-qa"] = Repository("ada/llama-qa", private=True)
    push = pushing("private = false")
    push(adapter())
    assert hub.repos["ada/llama-qa"].private
    assert "is private; it stays so" in push.log


def test_nobody_listens(pushing: Callable[..., Pushing], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    push = pushing()
    text = push.error(adapter())
    assert f"http://127.0.0.1:{port} cannot be reached" in text
    assert push.log.count("cannot be reached") == 4


def test_a_card_that_the_hub_rejects(hub: FakeHub, pushing: Callable[..., Pushing]) -> None:
    bad = adapter(**{"README.md": b"---\nbase_model: smollm2:135m\n---\n"})
    text = pushing().error(bad)
    assert 'the Hub refused it (400: "base_model" with value "smollm2:135m" is not valid' in text
    assert len(hub.repos["ada/llama-qa"].branches["main"]) == 1


def test_the_command_in_the_message_works(hub: FakeHub, pushing: Callable[..., Pushing], tmp_path: Path) -> None:
    hub.fail("/api/repos/create", 403)
    text = pushing(name="it-works").error(adapter())
    _, _, typed = text.partition(", or without ftcore: ")
    assert "then type: ftcore push runs/it-works, or" in text
    assert typed.startswith(f"HF_ENDPOINT={hub.url} hf upload ada/it-works ")
    assert typed.endswith(" --private")

    variable, *command = shlex.split(typed)
    program = shutil.which("hf", path=str(Path(sys.executable).parent))
    assert program
    environment = os.environ | hub.environment(TOKEN) | dict([variable.split("=", 1)])
    subprocess.run([program, *command[1:]], env=environment, check=True, capture_output=True, timeout=120)

    assert hub.repos["ada/it-works"].private
    assert downloaded(hub, "ada/it-works", tmp_path / "down") == adapter().contents


# --- before the training ----------------------------------------------------------------------------------------------

NO_TOKEN = "there is no access token: HF_TOKEN is not set"
LOCAL_ONLY = '[stages]\nsavers = ["local"]'
WITH_HUB = '[stages]\nsavers = ["local", "hub"]'


def problems(plugins: Plugins, config: configs.Config) -> list[Problem]:
    return list(plugins.call("ftcore_check", "hub", config=config, settings=config.section("hub")))


@pytest.mark.parametrize(
    ("fine_tuner", "more", "token", "expected"),
    [
        ("", "", "", []),
        ("push_to_hub = false", "", "", []),
        ("push_to_hub = false", LOCAL_ONLY, "", []),
        ("push_to_hub = true", "", TOKEN, []),
        ("push_to_hub = true", WITH_HUB, TOKEN, []),
        ("", WITH_HUB, TOKEN, []),
        ("push_to_hub = true", "", "", [("fine_tuner.push_to_hub", f"push_to_hub is true and {NO_TOKEN}")]),
        ("push_to_hub = true", "", "  ", [("fine_tuner.push_to_hub", f"push_to_hub is true and {NO_TOKEN}")]),
        ("", WITH_HUB, "", [("stages.savers", f"[stages] savers names hub and {NO_TOKEN}")]),
        ("push_to_hub = true", "", "hf_a\tb", [("fine_tuner.push_to_hub", "has spaces or characters")]),
    ],
)
def test_check(
    plugins: Plugins,
    load: Callable[..., configs.Config],
    monkeypatch: pytest.MonkeyPatch,
    fine_tuner: str,
    more: str,
    token: str,
    expected: list[tuple[str, str]],
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    found = problems(plugins, load(more, fine_tuner))
    assert [problem.where for problem in found] == [where for where, _ in expected]
    for problem, (_, message) in zip(found, expected, strict=True):
        assert message in problem.message
        assert problem.severity == "error"
        assert problem.fix


@pytest.mark.parametrize(("value", "savers"), [("true", LOCAL_ONLY), ("false", WITH_HUB)])
def test_savers_that_contradict_push_to_hub(load: Callable[..., configs.Config], value: str, savers: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        load(savers, f"push_to_hub = {value}")
    (text,) = caught.value.lines
    assert f"push_to_hub is {value} and [stages] savers" in text


@pytest.mark.parametrize("variable", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
def test_check_finds_the_token_in_the_environment(
    plugins: Plugins, load: Callable[..., configs.Config], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    assert problems(plugins, load())
    monkeypatch.setenv(variable, TOKEN)
    assert not problems(plugins, load())


def test_the_token_file_is_the_clients_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from ftcore_hub import tokens

    for settings in (
        {"HF_HOME": str(tmp_path / "a")},
        {"HF_HOME": "", "XDG_CACHE_HOME": str(tmp_path / "b")},
        {"HF_TOKEN_PATH": str(tmp_path / "c")},
    ):
        environment = {**os.environ, **settings}
        if not environment["HF_HOME"]:
            del environment["HF_HOME"]
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        code = "from huggingface_hub.constants import HF_TOKEN_PATH; print(HF_TOKEN_PATH)"
        theirs = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
        assert str(tokens.token_file()) == theirs.stdout.decode().strip()


def test_check_sees_that_the_hub_is_forbidden(
    plugins: Plugins, load: Callable[..., configs.Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (problem,) = problems(plugins, load())
    assert problem.message == "push_to_hub is true and HF_HUB_OFFLINE forbids the Hub"


def test_check_names_the_missing_package(
    plugins: Plugins, load: Callable[..., configs.Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("ftcore_hub.checks.find_spec", lambda name: None if name == "huggingface_hub" else found(name))
    (problem,) = problems(plugins, load())
    assert problem.fix == "Type: pip install 'ftcore[hub]'"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('repo_id = ""', "a part of it is empty"),
        ('repo_id = "a/b/c"', "one slash at most"),
        ('repo_id = "../../etc"', "other characters than"),
        ('repo_id = "ada/mo del"', "other characters than"),
        ('repo_id = "ada/modèle"', "other characters than"),
        ('repo_id = "ada/-model"', "other characters than"),
        ('repo_id = "ada/a--b"', "contains '..' or '--'"),
        ('repo_id = "ada/model.git"', "ends with '.git'"),
        (f'repo_id = "ada/{"x" * 97}"', "more than 96"),
        ('repo_id = "/model"', "a part of it is empty"),
        ("repo_id = 3", "hub.repo_id = 3 is not allowed"),
        ('revision = "a..b"', "a branch has letters"),
        ('revision = "-x"', "a branch has letters"),
        ('endpoint = "hub.example"', "begins with https://"),
        ('endpoint = "https://ada:pass@hub.example"', "the token comes from HF_TOKEN"),
        ("timeout = 0", "hub.timeout = 0 is not allowed"),
        ('private = "yes"', 'hub.private = "yes" is not allowed'),
        ('token = "hf_x"', "has no key 'token'"),
    ],
)
def test_settings_that_cannot_be(load: Callable[..., configs.Config], line: str, message: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        load(f"[hub]\n{line}")
    (text,) = caught.value.lines
    assert message in text
    assert "[hub]" in text or "hub." in text


def test_names_agree_with_the_client() -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    from ftcore_hub.settings import unusable

    def refused(name: str) -> bool:
        try:
            validate_repo_id(f"ada/{name}")
        except HFValidationError:
            return True
        return False

    names = [
        "a",
        "A.b",
        "_a",
        "a_",
        "a.b-c_d",
        ".a",
        "a.",
        "-a",
        "a-",
        "a..b",
        "a--b",
        "a.git",
        "é",
        "x" * 96,
        "x" * 97,
    ]
    # Older clients let letters of any alphabet pass, which the Hub does not.
    assert {name for name in names if unusable(name)} == {name for name in names if refused(name)} | {"é"}


# --- in a process of its own ------------------------------------------------------------------------------------------

SCRIPT = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from ftcore import check, config, plugins
from ftcore.run import runs
from ftcore.settings.saving import SavingSettings
found = plugins.discover(disabled=sys.argv[2].split(","))
settings = config.load(Path(sys.argv[1]), found)
assert not list(found.call("ftcore_check", "hub", config=settings, settings=settings.section("hub")))
assert "huggingface_hub" not in sys.modules
run = runs.create(settings, found, [], "alone", datetime.now(UTC))
from test_hub import adapter
saving = settings.fine_tuner.view(SavingSettings)
trained = adapter()
if len(sys.argv) > 3:
    del trained.contents["adapter_model.safetensors"]
print(found.call("ftcore_save", "hub", run=run, trained=trained, held_out=None, saving=saving, settings=settings.section("hub")))
"""


def alone(hub: FakeHub, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    others = ",".join(entry.name for entry in entry_points(group="ftcore") if entry.name != "hub")
    path = Path("config.toml")
    required = 'base_model_id = "acme/base"\ntraining_data_id = "acme/data"\npush_to_hub = true'
    path.write_text(f"[fine_tuner]\n{required}\n[hub]\nrepo_id = 'alone'\n")
    variables = os.environ | hub.environment(TOKEN) | environment | {"PYTHONPATH": str(Path(__file__).parent)}
    command = [
        sys.executable,
        "-W",
        "error",
        "-W",
        f"ignore:{OLD_UPLOAD}:DeprecationWarning",
        "-c",
        SCRIPT,
        str(path),
        others,
        *arguments,
    ]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)


def test_alone_by_the_environment_only(hub: FakeHub, tmp_path: Path) -> None:
    done = alone(hub)
    assert done.returncode == 0, done.stderr
    assert f"{hub.url}/ada/alone" in done.stdout
    assert downloaded(hub, "ada/alone", tmp_path / "down") == adapter().contents


def test_alone_with_the_clients_pipelined_upload(hub: FakeHub) -> None:
    # Where hf_xet is installed, the client takes another way also for small files, which never reach Xet's storage.
    done = alone(hub, "small files only", HF_HUB_DISABLE_XET="0")
    assert done.returncode == 0, done.stderr
    assert hub.repos["ada/alone"].files()["README.md"] == CARD.encode()


@pytest.mark.skipif(
    Version(version("huggingface_hub")) < Version("1.33"), reason="older clients may send the files without Xet then"
)
@pytest.mark.parametrize(
    ("status", "message"),
    [(404, "has no Xet storage. Set HF_HUB_DISABLE_XET=1"), (403, "the token may not write to ada/alone (403)")],
)
def test_alone_refused_by_the_xet_storage(hub: FakeHub, status: int, message: str) -> None:
    hub.fail("/xet-write-token/", status, times=100)
    done = alone(hub, HF_HUB_DISABLE_XET="0")
    assert done.returncode == 1
    assert message in done.stderr
    assert hub.count("/xet-write-token/") == 1


def test_alone_refused_without_the_token_in_sight(hub: FakeHub) -> None:
    done = alone(hub, HF_TOKEN=READ_ONLY)
    assert done.returncode == 1
    assert "the token of ada can only read" in done.stderr
    assert READ_ONLY not in done.stdout + done.stderr


# --- a real model -----------------------------------------------------------------------------------------------------


def test_a_real_adapter_answers_the_same_after_the_way_over_the_hub(
    hub: FakeHub, pushing: Callable[..., Pushing], tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    from peft import LoraConfig, PeftModel, get_peft_model
    from tokenizers import Tokenizer, models
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from ftcore.run.card import CardFacts, render
    from ftcore.run.trained import TrainedModel

    torch.manual_seed(0)
    words = {"<pad>": 0, "hello": 1, "hub": 2}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<pad>")), pad_token="<pad>"
    )
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    shape = LlamaConfig(
        vocab_size=8, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, bos_token_id=None, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    base = LlamaForCausalLM(shape)
    base.save_pretrained(tmp_path / "base")
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    facts = CardFacts("llama-qa", "acme/base", "adapter", "acme/data", None, {"rows": 3}, {"rank": 4}, {}, {})
    trained = TrainedModel(model, tokenizer, "acme/base", {"eval_loss": 1.0}, lambda: render(facts))
    rows = torch.tensor([[1, 2, 2, 1]])
    expected = model.eval()(rows).logits

    push = pushing()
    assert push(trained).what == "pushed LoRA adapter"

    found = downloaded(hub, "ada/llama-qa", tmp_path / "down")
    local = {path.name: path.read_bytes() for path in (push.run.dir / "model").iterdir()}
    assert found == local
    assert {"README.md", "adapter_model.safetensors", "adapter_config.json", "tokenizer.json"} <= set(found)
    assert "base_model: acme/base" in found["README.md"].decode()
    again = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "down")
    assert torch.equal(again.eval()(rows).logits, expected)
    assert AutoTokenizer.from_pretrained(tmp_path / "down").chat_template == tokenizer.chat_template
