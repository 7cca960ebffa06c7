"""What tests of plugins need. Public; it imports nothing heavy.

pytest has the fixtures of `ftcore.testing.pytest_plugin` wherever ftcore is installed: `ftcore_model`,
`ftcore_project`, `ftcore_hooks`, `ftcore_reporter` and `ftcore_hub`. `check_plugin(name)` holds a plugin against the
contract, and `pytest --ftcore-plugin NAME` does so with one test for each rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftcore.testing.conformance.report import Report
    from ftcore.testing.conformance.setup import PluginSetup
    from ftcore.testing.hub import FakeHub
    from ftcore.testing.memory_reporter import MemoryReporter
    from ftcore.testing.project import CommandResult, FinishedRun, Project
    from ftcore.testing.recorder import HookCall, HookRecorder

__all__ = [
    "CommandResult", "FakeHub", "FinishedRun", "HookCall", "HookRecorder", "MemoryReporter", "PluginSetup", "Project",
    "check_plugin",
]  # fmt: skip

_HOMES = {
    "CommandResult": "project",
    "FakeHub": "hub",
    "FinishedRun": "project",
    "HookCall": "recorder",
    "HookRecorder": "recorder",
    "MemoryReporter": "memory_reporter",
    "PluginSetup": "conformance.setup",
    "Project": "project",
}
"""The module of each type, which is imported when it is asked for: pytest imports this package at every start."""


def check_plugin(name: str, kinds: Sequence[str] | None = None, setup: PluginSetup | None = None) -> Report:
    """Hold an installed plugin against the contract of what it serves.

    Args:
        name: the plugin's name, which is its entry point's.
        kinds: what to look at: "data", "formatter", "loader", "trainer", "reporter", "saver", "namer", "launcher"; by
            default what its hooks serve.
        setup: what it needs to be tried; by default what the table `[tool.ftcore.conformance.NAME]` of the
            `pyproject.toml` here, or in a folder above, says.

    Returns:
        Which rules it keeps, and which could not be tried, with the reason.

    Raises:
        AssertionError: it breaks rules; the message has each with what was found, why it matters and the fix.
        ValueError: there is no such kind.
    """
    from ftcore.testing.conformance import check

    return check.check_plugin(name, kinds, setup)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
