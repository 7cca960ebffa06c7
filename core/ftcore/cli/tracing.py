"""`--trace`: what every command does with it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ftcore.plugins import Plugins
    from ftcore.trace import Call, Trace

_WANTED = "ftcore.cli.tracing"
_SHORT = 0.001  # seconds: what is shorter in all is one row
_FOR_ALL = frozenset({"import", "ftcore_settings", "ftcore_policy"})  # what every configuration asks of every plugin


def _note(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    context.meta[_WANTED] = value


trace_option = click.option(
    "--trace",
    is_flag=True,
    envvar="FTCORE_TRACE",
    show_envvar=True,
    expose_value=False,
    callback=_note,
    help="Tell of each call to a plugin, and of the time it took.",
)


def wanted() -> bool:
    """Whether the command that runs was given `--trace`."""
    return bool(click.get_current_context().meta.get(_WANTED))


def discover() -> Plugins:
    """The plugins. With `--trace` each call to one is a line on standard error, and a table says in the end who took what."""
    from ftcore.plugins import discover
    from ftcore.processes import rank

    plugins = discover()
    if wanted() and rank() == 0:  # of several processes that train together, the main one tells
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
    """End the trace, and print who took how long: first those that serve the run's stages."""
    from ftcore.cli.table import table
    from ftcore.plugins.discovery import STAGE_OF_HOOK
    from ftcore.text import duration

    trace.close()
    calls = [*trace.calls, *trace.often.values()]
    stages = [call for call in calls if call.hook in STAGE_OF_HOOK]
    collected = [call for call in calls if call.hook in _FOR_ALL]
    others = [call for call in calls if call.hook not in STAGE_OF_HOOK.keys() | _FOR_ALL]
    rows: list[tuple[str, ...]] = [("TIME", "WITH OTHERS", "CALLS", "OF", "PLUGIN")]
    rows += [*_by_plugin(stages), *_by_plugin(others), *_by_hook(collected)]
    elapsed = duration(time.perf_counter() - trace.began)
    click.echo(f"\nWhere the time of plugins went, in {elapsed}:", err=True)
    table(rows, err=True)


def _by_plugin(calls: Sequence[Call]) -> Iterator[tuple[str, ...]]:
    """A row for what each plugin did, the longest first; what took hardly any time shares one."""
    from ftcore.text import duration

    totals: dict[tuple[str, str], tuple[float, float, int]] = {}
    for call in calls:
        own, seconds, count = totals.get((call.what, call.whose), (0.0, 0.0, 0))
        totals[call.what, call.whose] = (own + call.own_seconds, seconds + call.seconds, count + call.calls)
    brief, many = 0.0, 0
    for (what, whose), (own, seconds, count) in sorted(totals.items(), key=lambda item: item[1], reverse=True):
        if seconds < _SHORT:
            brief, many = brief + own, many + count
        else:
            yield (duration(own), duration(seconds), str(count), what, whose)
    if many:
        yield (duration(brief), "", str(many), f"what took less than {duration(_SHORT)}", "")


def _by_hook(calls: Sequence[Call]) -> Iterator[tuple[str, ...]]:
    """A row for what every plugin was asked, and who took most of it."""
    from ftcore.text import duration

    for hook in dict.fromkeys(call.hook for call in calls):
        mine = [call for call in calls if call.hook == hook]
        longest = max(mine, key=lambda call: call.own_seconds)
        took = (duration(sum(call.own_seconds for call in mine)), duration(sum(call.seconds for call in mine)))
        named = len({call.plugin for call in mine})
        yield (*took, str(len(mine)), hook, f"{named} plugins, {duration(longest.own_seconds)} of it {longest.whose}")
