"""`ftcore doctor`: it tells everything, whatever is broken."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

import pytest

from ftcore import __version__, cpu, doctor
from ftcore.run.manifest import LIBRARIES

SECRET = "hf_neverShowThisToAnybody0123"


@pytest.fixture(autouse=True)
def no_torch_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests of torch's probe ask for it themselves; it takes seconds."""
    monkeypatch.setattr(doctor, "torch_and_gpus", lambda: {"missing": "pip install 'ftcore[train]'"})


def test_the_sections(ftcore: Any) -> None:
    outcome = ftcore("doctor")
    assert (outcome.code, outcome.err) == (0, "")
    assert f"ftcore{' ' * 20}{__version__}" in outcome.out
    labels = [line.split("  ")[0] for line in outcome.out.splitlines() if not line.startswith(" ")]
    for label in (
        "python",
        "processor",
        "memory",
        "disk",
        "torch",
        "driver",
        "libraries",
        "plugins",
        "loader",
        "HF_TOKEN",
    ):
        assert label in labels
    for library in LIBRARIES:
        assert f" {library} " in outcome.out


def test_json_holds_the_same(ftcore: Any) -> None:
    facts = json.loads(ftcore("doctor", "--json").out)
    assert facts["system"]["ftcore"] == __version__
    assert facts["libraries"]["pydantic"] == {"version": version("pydantic")}
    assert facts["processor"]["memory_bytes"] > 2**28
    assert facts["processor"]["features"] == cpu.features()
    assert facts["disk"]["total_bytes"] >= facts["disk"]["free_bytes"]
    assert "local" in facts["plugins"]["working"]


def test_the_loader_and_who_stood_back(ftcore: Any, install: Any) -> None:
    source = (
        "from ftcore import hookimpl\nfrom ftcore.contracts import Declined\n"
        "@hookimpl\ndef ftcore_bid(stage):\n"
        "    return Declined('the moon is not full') if stage == 'loader' else None\n"
        "@hookimpl\ndef ftcore_make_loader(): ...\n"
    )
    install("acme", {"acme_shy": source}, {"acme": "acme_shy"})
    facts = json.loads(ftcore("doctor", "--json").out)["loader"]
    assert facts["auto"] in ("transformers", "unsloth")
    assert "acme stands back: the moon is not full" in facts["stood_back"]
    assert "acme stands back: the moon is not full" in ftcore("doctor").out


def test_a_broken_plugin_is_named_with_its_reason(ftcore: Any, install: Any) -> None:
    install("acme", {"acme_broken_here": "import no_such_module_anywhere\n"}, {"acme": "acme_broken_here"})
    outcome = ftcore("doctor")
    assert outcome.code == 0
    assert "acme is broken: " in outcome.out
    assert "no_such_module_anywhere" in outcome.out


def test_secrets_are_said_to_be_there_and_never_shown(ftcore: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("WANDB_API_KEY", "")
    monkeypatch.setenv("FTCORE_SOMETHING", f"with {SECRET} inside")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret-password@tracker")
    for arguments in (("doctor",), ("doctor", "--json")):
        out = ftcore(*arguments).out
        assert SECRET not in out
        assert "secret-password" not in out
    facts = json.loads(ftcore("doctor", "--json").out)
    assert facts["tokens"]["HF_TOKEN"] == "set"
    assert facts["tokens"]["WANDB_API_KEY"] == "not set"
    assert facts["environment"]["FTCORE_SOMETHING"] == "with *** inside"


def test_a_probe_that_fails_takes_nothing_with_it(ftcore: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def burn() -> doctor.Facts:
        raise RuntimeError("on fire")

    for probe in ("system", "processor", "disk", "driver", "libraries", "plugins", "loader", "tokens", "environment"):
        with monkeypatch.context() as patched:
            patched.setattr(doctor, probe, burn)
            outcome = ftcore("doctor")
        assert outcome.code == 0
        assert "cannot be told: RuntimeError: on fire" in outcome.out
        assert outcome.out.count("cannot be told") == 1


def test_missing_libraries_come_with_what_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise doctor.PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "distribution", absent)
    found = doctor.libraries()
    assert found["trl"] == {"version": None, "install": "pip install 'ftcore[train]'"}
    assert found["bitsandbytes"]["install"] == "pip install 'ftcore[quantization]'"
    assert {entry["install"].split()[0] for entry in found.values()} == {"pip"}


def test_every_extra_that_is_recommended_exists() -> None:
    from importlib.metadata import metadata

    assert set(doctor._PROVIDED_BY.values()) <= set(metadata("ftcore").get_all("Provides-Extra") or ())
    assert doctor._PROVIDED_BY.keys() <= set(LIBRARIES)


def test_processors_as_the_kernel_describes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    arm = {"features": "fp asimd bf16 sve"}
    monkeypatch.setattr(cpu, "_described", lambda: arm)
    assert cpu.features() == ["asimd", "sve", "bf16"]
    assert cpu.computes_bfloat16()
    monkeypatch.setattr(cpu, "_described", lambda: {"model name": "Old One", "flags": "sse avx2"})
    assert (cpu.model(), cpu.features(), cpu.computes_bfloat16()) == ("Old One", ["avx2"], False)


def test_torch_is_asked_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.undo()
    facts = doctor.torch_and_gpus()
    assert facts["version"] == version("torch")
    assert facts["cuda_available"] == bool(facts["gpus"])
    monkeypatch.setattr(doctor, "_TORCH", "raise SystemExit('libcudart.so.12: no such file')")
    assert doctor.torch_and_gpus() == {"error": "torch cannot be imported: libcudart.so.12: no such file"}
