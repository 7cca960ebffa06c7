"""One call to a plugin, as it is told of and written."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Any

from ftcore.hookspecs import PROJECT
from ftcore.text import duration


@dataclass(eq=False)
class Call:
    """A call of one plugin's implementation of a hook, or of a method of the object that it made.

    Attributes:
        hook: e.g. "ftcore_make_loader".
        plugin, distribution, version: whose; the plugin is empty for ftcore's own work inside a plugin's.
        method: e.g. "Loader.model"; empty for the hook itself.
        number: of the call in this process. What wrappers and plugins do in one call of a hook has the same one.
        order: its place in the call, from 1; wrappers come first.
        seconds: how long it took; a wrapper or a generator is not charged with what others do while it waits.
        inside: seconds of other calls inside this one.
        outcome: "answered", "None", or "raised" with the name of the exception; of a wrapper "wrapped", or "changed" where
            it gave another answer than it got; of an import "broken" where its plugin is that.
        at: when it began, in seconds since 1970.
        calls: how many calls these are; more than one only of a method that is called with every record.
    """

    hook: str
    plugin: str
    distribution: str
    version: str
    method: str = ""
    number: int = 0
    order: int = 1
    seconds: float = 0.0
    inside: float = 0.0
    outcome: str = ""
    at: float = field(default_factory=time.time)
    calls: int = 1

    @property
    def own_seconds(self) -> float:
        """Without the calls inside."""
        return max(0.0, self.seconds - self.inside)

    @property
    def what(self) -> str:
        """The method, or the hook."""
        return self.method or self.hook

    @property
    def whose(self) -> str:
        """The plugin and its distribution."""
        return f"{self.plugin} ({self.distribution})" if self.plugin else PROJECT

    def raised(self, error: BaseException) -> None:
        """It ended with an error, whose message may hold anything and is not kept."""
        self.outcome = f"raised {type(error).__name__}"

    def facts(self) -> dict[str, Any]:
        """The call as it is written."""
        return {
            "hook": self.hook,
            **({"method": self.method} if self.method else {}),
            "plugin": self.plugin,
            "distribution": self.distribution,
            "version": self.version,
            "process": os.getpid(),
            "call": self.number,
            "order": self.order,
            "at": self.at,
            "seconds": round(self.seconds, 6),
            "own_seconds": round(self.own_seconds, 6),
            "outcome": self.outcome,
            **({"calls": self.calls} if self.calls > 1 else {}),
        }

    def __str__(self) -> str:
        times = f" · {self.calls} calls" if self.calls > 1 else ""
        return f"{duration(self.seconds):>9}  {self.what:<22} {self.order}. {self.whose} · {self.outcome}{times}"
