"""Makes an environment that has unsloth beside everything that this interpreter has.

    python tests/with_unsloth/environment.py FOLDER

unsloth changes transformers, TRL and PEFT in every process that imports it, and is the loader wherever it is
installed; tests of the other loader must not meet it. Its requirements are not installed: those that training text
models takes are here already, the rest is for GPUs and images.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
PACKAGES = ("unsloth", "unsloth_zoo")


def make(folder: Path) -> Path:
    """The environment's interpreter."""
    venv.create(folder, with_pip=False, symlinks=True, clear=True)
    site = next(folder.glob("lib/python3*/site-packages"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--target", str(site), "--constraint", str(CONSTRAINTS), *PACKAGES], check=True)
    # As a site folder, not a mere path: ftcore itself is installed by a .pth file in it.
    (site / "beside.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    return folder / "bin" / "python"


if __name__ == "__main__":
    make(Path(sys.argv[1]))
