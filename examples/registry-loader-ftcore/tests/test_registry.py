"""A name becomes a folder whose files are what the registry says."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ftcore import cache
from ftcore.errors import ModelError
from ftcore.testing import PluginSetup, check_plugin
from registry_loader_ftcore import RegistrySettings
from registry_loader_ftcore.store import Store


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder that stands for a model."""
    folder = tmp_path / "weights"
    (folder / "nested").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "nested" / "a file.bin").write_bytes(bytes(range(256)) * 5000)
    return folder


def store(url: str, token: str | None = None) -> Store:
    return Store(url, "production", 5.0, token)


def get(where: Store, wanted: str) -> Path:
    return where.folder(where.find(wanted))


def test_it_keeps_the_rules(registry: Any, weights: Path) -> None:
    registry.add("1", weights, production="1")
    setup = PluginSetup(config={"registry": {"url": str(registry.folder)}}, model="registry:assistant")
    check_plugin("registry", setup=setup)


def test_a_run_is_trained_on_it(registry: Any, url: str, ftcore_project: Any, ftcore_model: Path) -> None:
    registry.add("6", ftcore_model, production="6")
    tables = {"fine_tuner": {"base_model_id": "registry:assistant"}, "registry": {"url": url}, "run": {"name": "r"}}
    run = ftcore_project.run(tables)
    assert run.manifest["status"] == "finished"
    assert "registry   assistant version 6" in run.output
    noted = json.loads((run.path / "registry.json").read_text())
    assert (noted["model"], noted["version"], noted["registry"]) == ("assistant", "6", url)
    assert noted["sha256"].keys() == {path.name for path in ftcore_model.iterdir()}
    assert {entry.source for entry in cache.entries()} >= {"assistant version 6"}
    before = len(registry.downloads())
    assert ftcore_project.ftcore("preview", "config.toml").exit_code == 0
    assert len(registry.downloads()) == before

    # The stage moves: a new run takes the new version, the old run does not.
    registry.add("7", ftcore_model)
    (registry.folder / "assistant" / "7" / "extra.json").write_text("{}")
    registry.versions["7"]["files"]["extra.json"] = {
        "sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", "bytes": 2
    }  # fmt: skip
    registry.stage(production="7")
    manifest = json.loads((run.path / "manifest.json").read_text())
    (run.path / "manifest.json").write_text(json.dumps({**manifest, "status": "interrupted"}))
    resumed = ftcore_project.ftcore("run", "config.toml", "--resume", "r")
    assert resumed.exit_code == 5
    assert "was begun with version 6 of assistant" in resumed.stderr
    pinned = ("--set", "fine_tuner.base_model_id=registry:assistant@6", "--accept-changes")
    assert ftcore_project.ftcore("run", "config.toml", "--resume", "r", *pinned).exit_code == 0


def test_a_name_that_does_not_exist_stops_the_run_before_it_begins(
    registry: Any, url: str, weights: Path, ftcore_project: Any
) -> None:
    registry.add("1", weights, production="1")
    tables = {"fine_tuner": {"base_model_id": "registry:asistant@production"}, "registry": {"url": url}}
    ended = ftcore_project.ftcore("run", ftcore_project.config(tables))
    assert ended.exit_code == 2
    assert 'the registry has no model "asistant": it has assistant. Did you mean "assistant"?' in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not ftcore_project.runs()


@pytest.mark.parametrize("wanted", ["assistant", "assistant@production", "assistant@2"])
def test_stages_and_versions(registry: Any, url: str, weights: Path, wanted: str) -> None:
    registry.add("1", weights, staging="1")
    registry.add("2", weights, production="2")
    found = store(url).find(wanted)
    assert str(found) == "assistant version 2"
    assert str(store(url).find("assistant@staging")) == "assistant version 1"
    with pytest.raises(ModelError, match='no "assistant@canary": assistant has production, staging, 1, 2'):
        store(url).find("assistant@canary")


def test_what_is_cached_is_not_downloaded_again(registry: Any, url: str, weights: Path) -> None:
    registry.add("1", weights, production="1")
    folder = get(store(url), "assistant")
    assert (folder / "nested" / "a file.bin").read_bytes() == (weights / "nested" / "a file.bin").read_bytes()
    assert len(registry.downloads()) == 2
    assert get(store(url), "assistant@1") == folder
    assert len(registry.downloads()) == 2
    (folder / "config.json").unlink()
    assert (get(store(url), "assistant") / "config.json").exists()


def test_a_folder_is_a_registry_too(registry: Any, weights: Path) -> None:
    registry.add("1", weights, production="1")
    assert (get(store(str(registry.folder)), "assistant") / "config.json").read_text() == "{}"
    with pytest.raises(ModelError, match="there is no registry in"):
        store(str(weights)).find("assistant")


def test_a_file_with_other_contents_is_never_used(registry: Any, url: str, weights: Path) -> None:
    registry.add("1", weights, production="1")
    (registry.folder / "assistant" / "1" / "config.json").write_text("[]")
    with pytest.raises(ModelError, match=r"config\.json of assistant version 1 is not what the registry's index says"):
        get(store(url), "assistant")
    assert cache.entries() == []
    assert [path.name for path in (cache.cache_folder() / "registry").iterdir()] == []


@pytest.mark.parametrize("fault", [503, 429, "cut"])
def test_a_fault_that_passes_is_waited_for(registry: Any, url: str, weights: Path, fault: Any) -> None:
    registry.add("1", weights, production="1")
    where = store(url)
    found = where.find("assistant")
    registry.faults += [fault, fault]
    assert (where.folder(found) / "config.json").exists()
    assert len(registry.downloads()) == 4


@pytest.mark.parametrize(
    ("faults", "message"),
    [([503] * 3, "does not answer: index.json: 503"), ([404], "Check url"), ([401], "Set REGISTRY_TOKEN")],
)
def test_other_faults_are_told_in_a_line(registry: Any, url: str, faults: list[int], message: str) -> None:
    registry.faults += faults
    with pytest.raises(ModelError, match=message) as error:
        store(url).find("assistant")
    assert "\n" not in str(error.value)
    assert len(registry.asked) == len(faults)


def test_a_registry_that_is_away_is_told_of() -> None:
    with pytest.raises(ModelError, match="does not answer"):
        store("http://127.0.0.1:9").find("assistant")


def test_the_token_is_sent_and_not_shown(registry: Any, url: str, weights: Path) -> None:
    registry.add("1", weights, production="1")
    with_token = store(url, "a-secret-token")
    get(with_token, "assistant")
    assert set(registry.tokens) == {"Bearer a-secret-token"}
    assert "a-secret-token" not in repr(with_token)


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "a\\b", ""])
def test_an_index_cannot_name_files_elsewhere(registry: Any, url: str, weights: Path, name: str) -> None:
    registry.add("1", weights)
    registry.versions["1"]["files"][name] = {"sha256": "0" * 64, "bytes": 1}
    registry.stage(production="1")
    with pytest.raises(ModelError, match=r"index .* cannot be read"):
        get(store(url), "assistant")


def test_an_address_with_a_password_is_refused() -> None:
    for url in ("https://ada:secret@models.example", "ftp://models.example"):
        with pytest.raises(ValidationError):
            RegistrySettings(url=url)


def test_the_readmes_settings_are_valid() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    tables = tomllib.loads(readme.partition("```toml\n")[2].partition("```")[0])
    RegistrySettings(**tables["registry"])
