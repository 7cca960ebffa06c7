"""Where the job runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Job(Protocol):
    """What a launcher launches."""

    @property
    def command(self) -> Sequence[str]:
        """The command line that runs the job in another process, in the run directory that is there already.

        A launcher puts around it what it needs (`torchrun …`, `srun …`). In a distributed job each process has its
        number in the variable RANK; number 0 reports and saves. The exit status is that of `ftcore run`.
        """

    def run_here(self) -> None:
        """Run the job in this process."""
