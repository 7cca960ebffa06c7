"""`ftcore check CONFIG`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ftcore.cli.options import config_argument, set_option
from ftcore.cli.tracing import discover, trace_option

if TYPE_CHECKING:
    from ftcore.config import Config
    from ftcore.config.origins import Origin
    from ftcore.plugins import Plugins

_WIDEST = 48  # characters; what is longer stands out of its column


@click.command()
@config_argument
@set_option
@click.option("--data", "with_data", is_flag=True, help="Look at the data too: load the tokenizer and every row.")
@click.option("--origins", "with_origins", is_flag=True, help="Show every value in force and where it comes from.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object; not with --data.")
@trace_option
def check(config: Path, overrides: tuple[str, ...], with_data: bool, with_origins: bool, as_json: bool) -> None:
    """Look for every mistake in the file CONFIG that can be found without loading data or a model.

    What the policies of plugins gave is shown. With --origins, so is every other value: the default, a file and its
    line, an environment variable, --set or a policy that it comes from. Secrets are masked.

    With --data, tokenizer and data are loaded as well, and audited as `ftcore run` does it before it loads the model
    (see [audit]).
    """
    if as_json and with_data:
        raise click.UsageError("--json goes without --data")
    from ftcore import check as checks
    from ftcore.config.origins import origins
    from ftcore.run.runs import effective
    from ftcore.secrets import mask, masked

    plugins = discover()
    settings = checks.read(config, plugins, overrides)
    choices, warnings = checks.check(settings, plugins)
    found = origins(settings, effective(settings)) if with_origins else []
    if as_json:
        facts = {
            "config": str(config),
            "stages": [{"stage": choice.stage, "plugin": choice.plugin} for choice in choices if choice.plugin],
            "warnings": warnings,
            "files": [layer.name for layer in settings.source.layers],
            "policies": [vars(ruling) | {"in_force": ruling in settings.ruled} for ruling in settings.policies],
            **({"values": [vars(origin) for origin in found]} if with_origins else {}),
        }
        click.echo(json.dumps(masked(facts), indent=2, ensure_ascii=False, default=str))
        return
    for warning in warnings:
        click.echo(mask(warning), err=True)
    served = ", ".join(f"{choice.stage} {choice.plugin}" for choice in choices if choice.plugin)
    click.echo(f"{config} is valid: {served}")
    for line in (*_policies(settings, effective(settings)), *_table(found)):
        click.echo(mask(line))
    if with_data:
        _audit(settings, plugins)


def _policies(settings: Config, values: Mapping[str, Any]) -> Iterator[str]:
    """What policies gave, and what of them was left out."""
    from ftcore.config import tables
    from ftcore.text import shown

    for ruling in settings.ruled:
        because = f"{', locked' * ruling.locked}{f': {ruling.reason}' * bool(ruling.reason)}"
        yield f"{ruling.where} = {shown(tables.get(values, ruling.where))} by the policy of {ruling.blame}{because}"
    for ruling in settings.policies:
        if ruling.unused:
            yield f"{ruling.where} of the policy of {ruling.blame} is left out: {ruling.unused}"


def _table(found: Sequence[Origin]) -> Iterator[str]:
    """One line for each value, those of a section in a column."""
    from ftcore.text import shown

    sections: dict[str, list[tuple[str, Any]]] = {}
    for origin in found:
        section, _, key = origin.where.partition(".")
        sections.setdefault(section, []).append((f"{key} = {shown(origin.value)}", origin))
    for section, rows in sections.items():
        width = min(_WIDEST, max(len(text) for text, _ in rows))
        yield ""
        yield f"[{section}]"
        for text, origin in rows:
            yield f"{text.ljust(width)}  # {origin}"


def _audit(settings: Config, plugins: Plugins) -> None:
    from ftcore.audit import gate as audit
    from ftcore.run.ahead import prepare_ahead
    from ftcore.secrets import mask

    ahead = prepare_ahead(settings, plugins)
    found = audit.examine(ahead.prepared, ahead.tokenizer, settings)
    click.echo(f"data: {found.summary()}")
    for text in (*ahead.run.warnings, *(str(one) for one in found.warnings)):
        click.echo(f"warning: {mask(text)}", err=True)
    found.require_passed()
    click.echo("the data pass the audit" + (", with the warnings above" if found.warnings else ""))
