"""The saver: the model as one file that can be carried elsewhere."""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path

from acme_ftcore.settings import AcmeSettings
from ftcore.contracts import Run, Trained
from ftcore.errors import SaveError


def archive(run: Run, trained: Trained, settings: AcmeSettings) -> Path:
    """Write `<archive_dir>/<run>.tar.gz`; an older one of that name is replaced in one step.

    Raises:
        SaveError: the archive cannot be written.
    """
    folder = settings.archive_dir.expanduser()
    target = folder / f"{run.name}.tar.gz"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{run.name}.") as scratch:
            model = trained.export(Path(scratch) / "model")
            with tarfile.open(Path(scratch) / target.name, "w:gz") as tar:
                tar.add(model, arcname=run.name)
            (Path(scratch) / target.name).replace(target)
    except OSError as error:
        why = error.strerror or str(error)
        raise SaveError(f"the archive {target} cannot be written", why=why, fix="Check [acme] archive_dir") from error
    return target
