"""What is left of a run when its training is over: `ftcore finish` and `ftcore push`, against a Hub with faults."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ftcore.testing.hub import FakeHub

pytestmark = [
    pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes/text content.:DeprecationWarning")
]

TOKEN = "hf_WriteTokenOfAda0123456789"
READ_ONLY = "hf_ReadTokenOfAda9876543210"
NARROW = "hf_FineTokenOfAda5566778899"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A Hub, and a machine that may ask it."""
    with FakeHub() as server, _machine(server, tmp_path):
        yield server


def _machine(server: FakeHub, home: Path) -> Any:
    import huggingface_hub.constants

    server.add_token(TOKEN, "ada", orgs=["acme"])
    server.add_token(READ_ONLY, "ada", "read")
    server.add_token(NARROW, "ada", "fineGrained", orgs=["acme"], writes=["acme/only-this"])
    patch = pytest.MonkeyPatch()
    for name in ("HF_HUB_OFFLINE", "HUGGING_FACE_HUB_TOKEN", "TRANSFORMERS_OFFLINE"):
        patch.delenv(name, raising=False)
    for name, value in {**server.environment(TOKEN), "HF_HOME": str(home / "hf")}.items():
        patch.setenv(name, value)
    patch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    patch.setattr("ftcore_hub.push.PAUSES", (0.01, 0.02, 0.03, 0.04))
    return _Undone(patch)


class _Undone:
    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def __enter__(self) -> None:
        """Patched already."""

    def __exit__(self, *raised: object) -> None:
        self._patch.undo()


def write_config(folder: Path, model: Path) -> None:
    rows = [{"question": f"How many {number}?", "answer": f"There are {number}."} for number in range(8)]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.toml").write_text(
        f"""
        [fine_tuner]
        base_model_id = "{model}"
        training_data_id = "data.jsonl"
        load_in_4bit = false
        epochs = 1
        save_steps = 1
        optimizer = "adamw_torch"
        push_to_hub = true
        [stages]
        loader = "transformers"
        savers = ["hub", "local"]
        [run]
        output_dir = "{folder / "runs"}"
        name = "r"
        """
    )


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> tuple[Path, int, str]:
    """A run whose push failed at the last moment: its directory, how it ended, and what was printed."""
    from ftcore.cli import main as cli_main

    folder = tmp_path_factory.mktemp("refused")
    write_config(folder, tiny_llama)
    with FakeHub() as server, _machine(server, folder), pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("click.echo", lambda text="", **_: lines.append(str(text)))
        server.fail("/commit/", 503, times=100)
        with pytest.raises(SystemExit) as ended:
            cli_main.main(["run", str(folder / "config.toml")])
        assert server.count("/_storage/", "PUT") == 1
        assert server.count("/commit/") == 5
    assert isinstance(ended.value.code, int)
    return folder / "runs" / "r", ended.value.code, "\n".join(lines)


@pytest.fixture
def run(refused: tuple[Path, int, str], tmp_path: Path) -> Path:
    """The same in a copy of one's own."""
    shutil.copytree(refused[0], tmp_path / "runs" / "r")
    return tmp_path / "runs" / "r"


def manifest(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "manifest.json").read_text())
    return found


def pushed(hub: FakeHub, repo: str = "ada/r") -> dict[str, bytes]:
    return {name: data for name, data in hub.repos[repo].files().items() if name != ".gitattributes"}


def in_model(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "model").iterdir()}


def test_a_push_that_fails_costs_nothing_that_was_trained(refused: tuple[Path, int, str]) -> None:
    run, code, printed = refused
    assert code == 7
    assert f"ftcore push {run}" in printed
    facts = manifest(run)
    assert facts["status"] == "failed"
    assert {"fit", "save:local"} <= facts["progress"].keys(), "one saver's failure keeps no other from saving"
    assert "save:hub" not in facts["progress"]
    assert (run / "model" / "adapter_model.safetensors").stat().st_size > 1000
    assert f"ftcore finish {run}" in (run / "run.log").read_text()


def test_finish_does_what_is_left_and_then_nothing(hub: FakeHub, run: Path, ftcore: Any) -> None:
    before = in_model(run)
    hub.fail("/api/repos/create", 429, headers={"Retry-After": "0"})
    hub.fail("/preupload/", 500)
    hub.drop("/_storage/")
    hub.drop("/commit/", done_first=True)
    outcome = ftcore("finish", str(run))
    assert outcome.code == 0, outcome.err
    assert pushed(hub) == before == in_model(run)
    assert len(hub.repos["ada/r"].branches["main"]) == 2
    facts = manifest(run)
    assert facts["status"] == "finished"
    assert facts["error"] is None
    assert {item["what"] for item in facts["saved"]} == {"LoRA adapter", "pushed LoRA adapter"}

    asked = len(hub.requests)
    again = ftcore("finish", str(run))
    assert (again.code, again.err) == (0, "")
    assert again.out == "saved      by hub, local before\n"
    assert len(hub.requests) == asked
    assert manifest(run) == facts


def test_push_sends_what_the_hub_does_not_have_however_often(hub: FakeHub, run: Path, ftcore: Any) -> None:
    hub.fail("/commit/", 500, times=100)
    failed = ftcore("push", str(run))
    assert failed.code == 7
    assert f"lies in {run / 'model'}, but was not pushed to ada/r" in failed.err
    assert hub.count("/_storage/", "PUT") == 1
    hub._faults.clear()
    assert ftcore("push", str(run)).code == 0
    assert hub.count("/_storage/", "PUT") == 1, "the weights were there already"
    assert pushed(hub) == in_model(run)
    commits = len(hub.repos["ada/r"].branches["main"])
    assert ftcore("push", str(run)).code == 0
    assert len(hub.repos["ada/r"].branches["main"]) == commits
    assert ftcore("push", str(run), "--set", "hub.repo_id=acme/elsewhere").code == 0
    assert pushed(hub, "acme/elsewhere") == in_model(run)


def test_a_model_that_is_not_there_comes_back_from_the_last_checkpoint(hub: FakeHub, run: Path, ftcore: Any) -> None:
    before = in_model(run)
    shutil.rmtree(run / "model")
    facts = manifest(run)
    del facts["progress"]["save:local"]
    (run / "manifest.json").write_text(json.dumps(facts))
    assert "ftcore finish" in ftcore("push", str(run)).err
    outcome = ftcore("finish", str(run))
    assert outcome.code == 0, outcome.err
    assert in_model(run)["adapter_model.safetensors"] == before["adapter_model.safetensors"]
    assert pushed(hub) == in_model(run)
    assert manifest(run)["status"] == "finished"


def test_what_cannot_be_finished(hub: FakeHub, run: Path, ftcore: Any, tmp_path: Path) -> None:
    shutil.rmtree(run / "model")
    shutil.rmtree(run / "checkpoints")
    facts = manifest(run)
    del facts["progress"]["save:local"]
    (run / "manifest.json").write_text(json.dumps(facts))
    lost = ftcore("finish", str(run))
    assert lost.code == 7
    assert "the trained model of r is lost" in lost.err
    del facts["progress"]["fit"]
    (run / "manifest.json").write_text(json.dumps(facts))
    early = ftcore("finish", str(run))
    assert (early.code, early.errors) == (
        2, ["error: the training of r is not over. Go on with it: ftcore run CONFIG --resume r"],
    )  # fmt: skip
    for command in ("finish", "push", "report"):
        nothing = ftcore(command, str(tmp_path))
        assert nothing.code == 2
        assert nothing.errors == [f"error: {tmp_path} is no run directory. Name a run directory, such as runs/<name>"]


@pytest.mark.parametrize(
    ("token", "section", "message"),
    [
        (READ_ONLY, "", "the token of ada can only read"),
        ("hf_Nobody0000000000000000", "", "does not accept the token"),
        (NARROW, "", "the fine-grained token of ada has no permission to write to ada/r"),
        (NARROW, 'repo_id = "acme/other"', "the fine-grained token of ada has no permission to write to acme/other"),
        (TOKEN, 'repo_id = "grace/model"', "grace is neither ada nor an organization of theirs"),
        (TOKEN, 'repo_id = "acme/public"', "acme/public exists and is public, and [hub] private is true"),
    ],
)
def test_what_would_stop_the_push_stops_the_run_before_it_begins(
    hub: FakeHub, ftcore: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str, section: str, message: str
) -> None:
    from ftcore.testing.hub_storage import Repository

    monkeypatch.setenv("HF_TOKEN", token)
    hub.repos["acme/public"] = Repository("acme/public", private=False)
    write_config(tmp_path, tmp_path / "never-looked-at")
    with (tmp_path / "config.toml").open("a") as file:
        file.write(f"\n[hub]\n{section}\n")
    outcome = ftcore("run", str(tmp_path / "config.toml"))
    assert outcome.code == 2
    assert message in outcome.err
    assert token not in outcome.err
    assert not (tmp_path / "runs").exists()
    assert all(request.method == "GET" for request in hub.requests)


@pytest.mark.parametrize(("token", "section"), [(TOKEN, ""), (NARROW, 'repo_id = "acme/only-this"')])
def test_what_could_be_pushed_is_let_through(
    hub: FakeHub, load: Callable[..., Any], plugins: Any, monkeypatch: pytest.MonkeyPatch, token: str, section: str
) -> None:
    from ftcore.check import check, preflight

    monkeypatch.setenv("HF_TOKEN", token)
    config = load(f"load_in_4bit = false\npush_to_hub = true\n[hub]\n{section}\n")
    selected, _ = check(config, plugins)
    assert preflight(config, plugins, selected, "r") == []
    assert hub.repos == {}


def test_a_hub_that_is_away_at_the_start_stops_nothing(
    hub: FakeHub, load: Callable[..., Any], plugins: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ftcore.check import check, preflight

    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.fail("/api/whoami-v2", 503, times=100)
    config = load("load_in_4bit = false\npush_to_hub = true\n")
    selected, _ = check(config, plugins)
    (warning,) = preflight(config, plugins, selected, "r")
    assert "warning: the model could not be pushed: the Hub is in trouble (503" in warning
    assert "The run goes on" in warning
