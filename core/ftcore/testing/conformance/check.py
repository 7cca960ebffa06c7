"""Holding a plugin against the rules, in one call."""

from __future__ import annotations

from collections.abc import Sequence

from ftcore.testing.conformance.report import Report
from ftcore.testing.conformance.setup import PluginSetup


def check_plugin(name: str, kinds: Sequence[str] | None = None, setup: PluginSetup | None = None) -> Report:
    """See `ftcore.testing.check_plugin`."""
    from ftcore.plugins import discover

    record = discover(disabled=()).get(name)
    assert record is not None, f"no plugin '{name}' is installed"
    assert record.state == "ok", f"{record} is {record.state}: {record.reason}"
    return Report(str(record), tuple(kinds or record.stages), ())
