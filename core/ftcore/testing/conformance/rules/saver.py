"""Rules for savers: the same again, nothing else touched, errors told."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ftcore.contracts import Saved
from ftcore.errors import FtcoreError, SaveError
from ftcore.run.held_out import HeldOutRows
from ftcore.run.trained import TrainedModel
from ftcore.settings.saving import SavingSettings
from ftcore.testing.conformance.rule import Broken, raised, rule
from ftcore.testing.conformance.subject import Scene, Subject
from ftcore.testing.conformance.weights import changed, loaded, weights

_LOGS = ("run.log", "reporting")
"""What the run itself writes while a saver works."""


@rule(
    "saver-says-what",
    why="what it says is shown to the user, and kept in the manifest",
    fix='return Saved("LoRA adapter", str(folder))',
)
def says_what(subject: Subject) -> Iterator[str]:
    """It says what it saved and where, and it is there."""
    saving = _Saving.of(subject)
    for saved in saving.save():
        if not saved.what or not saved.where:
            yield f"it returned {saved}"
        elif "://" not in saved.where and not Path(saved.where).exists():
            yield f"it says that the {saved.what} is in {saved.where}, and nothing is there"


@rule(
    "saver-idempotent",
    why="a run that goes on, `ftcore finish` and a launcher that starts a job again all save again",
    fix="write into a scratch folder and put it in place (ftcore.files.whole_folder); no time, no random name",
)
def idempotent(subject: Subject) -> Iterator[str]:
    """Saving twice gives the same answer and the same files."""
    saving = _Saving.of(subject)
    first = saving.save()
    files = saving.files(first)
    again = saving.save()
    later = saving.files(again)
    if first != again:
        yield f"it answered {first}, and then {again}"
    for path in sorted(files.keys() | later.keys()):
        if files.get(path) != later.get(path):
            what = "removes" if path not in later else "changes" if path in files else "adds"
            yield f"saving again {what} {path}"


@rule(
    "saver-touches-nothing-else",
    why="the run's own files, the base model and the user's folder are somebody else's",
    fix="write into a folder of your own in run.dir, or where the settings say",
)
def touches_nothing_else(subject: Subject) -> Iterator[str]:
    """It changes no file that was there, and writes none where the command was started or the model lies."""
    saving = _Saving.of(subject)
    checkpoint = saving.scene.run.dir / "checkpoints" / "checkpoint-2"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights.bin").write_bytes(b"a checkpoint")
    here = subject.folder / "here"
    here.mkdir()
    watched = (saving.scene.run.dir, subject.project.path, subject.model, here)
    before = {folder: hashes(folder) for folder in watched}
    with contextlib.chdir(here):
        places = [Path(saved.where).absolute() for saved in saving.save() if "://" not in saved.where]
    for folder, files in before.items():
        now = hashes(folder)
        for path in sorted(files):
            if now.get(path) != files[path] and not _inside(folder / path, places):
                yield f"it {'changes' if path in now else 'removes'} {folder.name}/{path}"
        for path in sorted(now.keys() - files.keys()) if folder != saving.scene.run.dir else ():
            if not _inside(folder / path, places):
                yield f"it writes {folder.name}/{path}, and does not say so"


@rule(
    "saver-leaves-the-model",
    why="the next saver saves the same model",
    fix="work on the exported folder, or put back what you change: types, mode, merged weights",
)
def leaves_the_model(subject: Subject) -> Iterator[str]:
    """The model in memory is afterwards what it was: weights, types and mode."""
    saving = _Saving.of(subject)
    model = saving.trained.model
    before, mode = weights(model), model.training
    types = {name: value.dtype for name, value in model.named_parameters()}
    saving.save()
    if different := changed(before, weights(model)):
        yield f"it changes {len(different)} weights, e.g. {sorted(different)[0]}"
    elif types != {name: value.dtype for name, value in model.named_parameters()}:
        yield "it changes the weights' type"
    if model.training != mode:
        yield "it leaves the model in another mode"


@rule(
    "saver-tells-errors",
    why="a run that says that it saved, and did not, loses hours of training",
    fix="let errors out, as SaveError with what to do; catch nothing that you cannot mend",
)
def tells_errors(subject: Subject) -> Iterator[str]:
    """Where the model cannot be had or written, it raises an FtcoreError."""
    saving = _Saving.of(subject, save_first=False)
    saving.trained = _Unsavable(saving.scene.config.fine_tuner.base_model_id)
    try:
        answer = saving.save()
    except FtcoreError:
        return
    except Exception as error:
        yield f"the disk was full, and {raised(error)}, which is no FtcoreError"
    else:
        yield f"the disk was full, and it says that it saved {answer}"


@dataclass
class _Saving:
    """A trained model, and the plugin that shall save it."""

    subject: Subject
    scene: Scene
    trained: Any

    @classmethod
    def of(cls, subject: Subject, *, save_first: bool = True) -> _Saving:
        """The tiny model with its adapter; the saver `local` has been there, as in a run."""
        scene = subject.scene("saver")
        if not save_first:
            return cls(subject, scene, None)
        tokenizer, model = loaded(scene)
        base = scene.config.fine_tuner.base_model_id
        trained = TrainedModel(model, tokenizer, base, {"train_loss": 1.0}, lambda: "# A tiny model\n")
        saving = cls(subject, scene, trained)
        for name in scene.stages.names("saver"):
            if name == subject.name:
                break
            scene.stages.save(name, scene.run, trained)
        return saving

    def save(self) -> list[Saved]:
        scene = self.scene
        answer = self.subject.call(
            "ftcore_save",
            run=scene.run,
            trained=self.trained,
            held_out=HeldOutRows(scene.config, scene.stages, scene.run),
            saving=scene.config.fine_tuner.view(SavingSettings),
            settings=scene.settings,
        )
        saved = [answer] if isinstance(answer, Saved) else list(answer or ())
        if not saved or not all(isinstance(item, Saved) for item in saved):
            raise Broken(f"ftcore_save returned {answer!r}, not a Saved or several")
        return saved

    def files(self, saved: list[Saved]) -> dict[str, str]:
        """The hashes of the run's files, and of what was saved elsewhere."""
        found = hashes(self.scene.run.dir)
        for place in {Path(item.where) for item in saved if "://" not in item.where}:
            if place.is_dir() and not _inside(place.absolute(), [self.scene.run.dir.absolute()]):
                found |= {str(place / path): value for path, value in hashes(place).items()}
        return found


class _Unsavable:
    """Implements `ftcore.contracts.Trained` on a full disk."""

    kind: Literal["adapter"] = "adapter"
    metrics: dict[str, float] = {}

    def __init__(self, base_model_id: str) -> None:
        self.base_model_id = base_model_id

    @property
    def model(self) -> Any:
        raise SaveError("the model cannot be had", why="the conformance suite wants it so")

    @property
    def tokenizer(self) -> Any:
        raise SaveError("the tokenizer cannot be had", why="the conformance suite wants it so")

    def export(self, folder: Path) -> Path:
        raise SaveError(f"the model cannot be written to {folder}", why="the disk is full")


def hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file, by its path in the folder; the run's logs left out."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] not in _LOGS
    }


def _inside(path: Path, places: list[Path]) -> bool:
    return any(path == place or place in path.parents for place in places)
