"""What `ftcore plugins new` writes, for every kind: built, installed in a clean environment, listed, run, and tested there.

The environment has ftcore's wheel and the eight plugins' in it; what else they need comes from the environment that the
tests run in, of which nothing of the checkout is seen.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from ftcore.new_plugin.choices import KINDS
from ftcore.new_plugin.names import Names
from ftcore.new_plugin.package import NewPlugin, write

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("clean")]

NAMES = {kind: Names(f"my-{kind}") for kind in KINDS}


@dataclass(frozen=True)
class Clean:
    """The environment, and the packages in it.

    Attributes:
        python: its interpreter.
        packages: the folder of each kind's package.
        wheels: the wheels that were built of them.
    """

    python: Path
    packages: dict[str, Path]
    wheels: tuple[Path, ...]

    def run(self, folder: Path, *arguments: str | Path) -> str:
        """`python ARGUMENTS` in a folder, which must go well; what it prints."""
        done = subprocess.run(
            [self.python, *arguments], cwd=folder, env=self.variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    @property
    def variables(self) -> dict[str, str]:
        """What a command in it sees: nothing of the environment that the tests run in."""
        keep = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "LANG") if name in os.environ}
        home = str(self.python.parents[2] / "home")
        return keep | {"PATH": f"{self.python.parent}:/usr/bin:/bin", "HOME": home, "HF_HUB_OFFLINE": "1"}


def pip(*arguments: str | Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", *arguments, "--quiet"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.fixture(scope="module")
def clean(ftcore_built: Any, tmp_path_factory: pytest.TempPathFactory) -> Clean:
    folder = tmp_path_factory.mktemp("new-plugins")
    packages = {kind: folder / "packages" / names.distribution for kind, names in NAMES.items()}
    for kind, package in packages.items():
        write(NewPlugin(NAMES[kind], kind, "Ada", "mit"), package)
    # One build environment for each would take longer than all the rest.
    isolation = ["--no-build-isolation"] if Version(version("setuptools")) >= Version("77") else []
    pip("wheel", "--no-deps", *isolation, "--wheel-dir", folder / "wheels", *packages.values())
    wheels = tuple(sorted((folder / "wheels").glob("*.whl")))

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "environment"], check=True)
    (folder / "home").mkdir()
    python = folder / "environment" / "bin" / "python"
    (site,) = (folder / "environment").glob("lib/python*/site-packages")
    (site / "zz-libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    pip("--python", python, "install", "--no-index", "--no-deps", "--force-reinstall", ftcore_built.wheel, *wheels)
    return Clean(python, packages, wheels)


def test_the_wheels_have_the_code_and_nothing_else(clean: Clean) -> None:
    assert len(clean.wheels) == len(KINDS)
    for kind, names in NAMES.items():
        (wheel,) = [wheel for wheel in clean.wheels if wheel.name.startswith(f"{names.package}-0.1.0-")]
        source = clean.packages[kind] / "src"
        with zipfile.ZipFile(wheel) as file:
            packed = [name for name in file.namelist() if ".dist-info/" not in name]
            assert any(name.endswith("/licenses/LICENSE") for name in file.namelist())
        written = [path for path in source.rglob("*") if path.is_file() and path.parts[-2] == names.package]
        assert sorted(packed) == sorted(str(path.relative_to(source)) for path in written)


def test_they_are_listed_and_what_they_need_is_there(clean: Clean, tmp_path: Path) -> None:
    place = clean.run(tmp_path, "-c", "import ftcore; print(ftcore.__file__)")
    assert Path(place.strip()).is_relative_to(clean.python.parents[1])
    head, *rows = (re.split(r"\s{2,}", line) for line in clean.run(tmp_path, "-m", "ftcore", "plugins").splitlines())
    listed = {row[0]: dict(zip(head, row, strict=False)) for row in rows if row[0].startswith("my-")}
    found = {name: (row["PACKAGE"], row["VERSION"], row["STATE"], row["STAGES"]) for name, row in listed.items()}
    # Were ftcore not in their ranges, they would be broken.
    assert found == {names.plugin: (names.distribution, "0.1.0", "ok", kind) for kind, names in NAMES.items()}
    program = (
        "from importlib.metadata import requires, version; from packaging.requirements import Requirement\n"
        f"for name in {[names.distribution for names in NAMES.values()]}:\n"
        "    for needed in map(Requirement, requires(name)):\n"
        "        assert needed.specifier.contains(version(needed.name), prereleases=True), (name, needed)\n"
    )
    clean.run(tmp_path, "-c", program)


def test_their_own_tests_pass(clean: Clean, tmp_path: Path) -> None:
    """In one process, as torch is imported once then; each package's folder is its plugin's own place all the same."""
    tests = [package / "tests" for package in clean.packages.values()]
    config = clean.packages["data"] / "pyproject.toml"
    out = clean.run(
        tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-c", config,
        "--rootdir", clean.packages["data"].parent, "-o", "filterwarnings=error:::ftcore_my_", *tests,
    )  # fmt: skip
    assert re.search(r"\d+ passed", out)
    assert "skipped" not in out, out


def test_their_code_is_typed(clean: Clean) -> None:
    mypy = Path(sys.executable).with_name("mypy")
    if not mypy.exists():
        pytest.skip("mypy is not installed")
    folders = [folder for package in clean.packages.values() for folder in (package / "src", package / "tests")]
    config = clean.packages["data"] / "pyproject.toml"
    command: list[str | Path] = [
        mypy,
        "--config-file",
        config,
        "--python-executable",
        clean.python,
        "--cache-dir",
        os.devnull,
    ]
    done = subprocess.run([*command, *folders], cwd=clean.python.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def workplace(clean: Clean, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workplace")
    program = "import pathlib; from ftcore.testing.models import tiny_model; tiny_model(pathlib.Path('models/tiny'))"
    clean.run(folder, "-c", program)
    (folder / "data").mkdir()
    rows = [f"What is {number} + 1?,It is {number + 1}." for number in range(12)]
    (folder / "data" / "sums.csv").write_text("\n".join(["question,answer", *rows]) + "\n", encoding="utf-8")
    (folder / "config.toml").write_text(CONFIG, encoding="utf-8")
    return folder


CONFIG = """
[fine_tuner]
base_model_id = "tiny"
training_data_id = "my-data:sums"
validation_data_id = "my-data:sums"
dtype = "float32"
max_sequence_length = 256
rank = 4
epochs = 2
learning_rate = 0.01
warmup_steps = 0
lora_dropout = 0.0
device_train_batch_size = 2
grad_accumulation = 2
use_gradient_checkpointing = false
log_steps = 1
report_to = "my-reporter"

[stages]
launcher = "my-launcher"
loader = "my-loader"
formatter = "my-formatter"
trainer = "my-trainer"
savers = ["local", "my-saver"]

[my-data]
held_out_every = 4

[my-formatter]
system = "Add."

[my-launcher]
wrapper = ["nice"]

[my-loader]
store = "models"

[my-namer]
pattern = "{model}-{data}-{seed}"

[my-saver]
folder = "shelf"
"""


def test_one_run_with_all_of_them(clean: Clean, workplace: Path) -> None:
    assert "my-trainer" in clean.run(workplace, "-m", "ftcore", "plugins", "why", "config.toml")
    out = clean.run(workplace, "-m", "ftcore", "run", "config.toml")
    run = workplace / "runs" / "tiny-sums-42"
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["status"] == "finished"
    for line in (
        "launcher   my-launcher: nice",
        "loader     my-loader: models/tiny, float32 on",
        "formatter  my-formatter",
        "trainer    my-trainer: AdamW",
    ):
        assert line in out
    assert (manifest["data"]["training_rows"], manifest["data"]["validation_rows"]) == (9, 3)
    assert manifest["metrics"]["eval_loss"] < manifest["metrics"]["eval_loss_before"]
    told = [json.loads(line) for line in (run / "my-reporter-records.jsonl").read_text(encoding="utf-8").splitlines()]
    assert (told[0]["kind"], told[-1]["status"]) == ("start", "finished")
    assert [line["step"] for line in told if "loss" in line] == list(range(1, manifest["steps"] + 1))
    with zipfile.ZipFile(workplace / "shelf" / "tiny-sums-42.zip") as file:
        assert "tiny-sums-42/adapter_model.safetensors" in file.namelist()
        assert (
            file.read("tiny-sums-42/adapter_model.safetensors")
            == (run / "model" / "adapter_model.safetensors").read_bytes()
        )
