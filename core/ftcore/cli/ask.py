"""`ftcore ask RUN QUESTION`."""

from __future__ import annotations

from pathlib import Path

import click

from ftcore.cli.tracing import discover, trace_option


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("question")
@click.option("--system", default=None, help="A system prompt; by default the chat template's own, if it has one.")
@click.option("--tokens", default=128, show_default=True, type=click.IntRange(min=1), help="The longest answer.")
@trace_option
def ask(run: Path, question: str, system: str | None, tokens: int) -> None:
    """Let the model that a RUN directory holds answer a QUESTION."""
    from ftcore.run.saved_model import answer

    click.echo(answer(run, question, discover(), system=system, max_new_tokens=tokens))
