"""`--trace`: what every command does with it."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ftcore.plugins import Plugins
    from ftcore.trace import Trace

_WANTED = "ftcore.cli.tracing"
_SHORT = 0.001  # seconds: what is shorter in all is one row


def _note(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    context.meta[_WANTED] = value


trace_option = click.option(
    "--trace",
    is_flag=True,
    envvar="FTCORE_TRACE",
    expose_value=False,
    callback=_note,
    help="Tell of each call to a plugin, and of the time it took; FTCORE_TRACE=1 does the same.",
)


def wanted() -> bool:
    """Whether the command that runs was given `--trace`."""
    return bool(click.get_current_context().meta.get(_WANTED))


def discover() -> Plugins:
    """The plugins. With `--trace` each call to one is a line on standard error, and a table says in the end who took what."""
    from ftcore.plugins import discover

    plugins = discover()
    if wanted():
        from ftcore.secrets import mask
        from ftcore.trace import Trace

        trace = Trace(plugins, _tell)
        for record in plugins.records:
            if text := record.slow():
                click.echo(f"warning: {mask(text)}", err=True)
        click.get_current_context().call_on_close(partial(_sum_up, trace))
    return plugins


def _tell(line: str) -> None:
    from ftcore.secrets import mask

    click.echo(f"trace  {mask(line)}", err=True)


def _sum_up(trace: Trace) -> None:
    """End the trace, and print who took how long."""
    from ftcore.cli.table import table
    from ftcore.text import duration

    trace.close()
    totals: dict[tuple[str, str], tuple[float, float, int]] = {}
    for call in (*trace.calls, *trace.often.values()):
        own, seconds, calls = totals.get((call.what, call.whose), (0.0, 0.0, 0))
        totals[call.what, call.whose] = (own + call.own_seconds, seconds + call.seconds, calls + call.calls)
    rows = [("TIME", "WITH OTHERS", "CALLS", "OF", "PLUGIN")]
    brief, others = 0.0, 0
    for (what, whose), (own, seconds, calls) in sorted(totals.items(), key=lambda item: item[1], reverse=True):
        if seconds < _SHORT:
            brief, others = brief + own, others + calls
        else:
            rows.append((duration(own), duration(seconds), str(calls), what, whose))
    if others:
        rows.append((duration(brief), "", str(others), f"what took less than {duration(_SHORT)}", ""))
    elapsed = duration(time.perf_counter() - trace.began)
    click.echo(f"\nWhere the time of plugins went, in {elapsed}:", err=True)
    table(rows, err=True)
