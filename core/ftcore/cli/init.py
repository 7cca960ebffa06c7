"""`ftcore init`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click


@click.command()
@click.option("--gpu", required=True, metavar="SIZE", help="The GPU's memory, like 8gb, or none for a CPU.")
@click.option("--data", metavar="ID", help="The training data; their columns are looked at.")
@click.option("--model", metavar="ID", help="The model, instead of the one that suits the memory.")
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("config.toml"), show_default=True, help="The file."
)
def init(gpu: str, data: str | None, model: str | None, output: Path) -> None:
    """Write a commented configuration that suits the GPU and the data. A file that is there is never replaced."""
    from ftcore import starter
    from ftcore.errors import ConfigError
    from ftcore.estimate import presets

    if model == "":
        raise click.BadParameter("it is empty", param_hint="--model")
    if output.exists():
        raise ConfigError(f"{output} is there already", fix="Name another file with --output, or remove it")
    size = presets.memory(gpu)
    preset = presets.fitting(size) if size else presets.WITHOUT_GPU
    if preset is None:
        raise ConfigError(
            f"--gpu {gpu} is too little for the smallest preset",
            why=f"it wants {presets.PRESETS[0].gib} GiB",
            fix="Use --gpu none to train on the processor",
        )
    columns = None
    if data is not None:
        from ftcore.plugins import discover

        columns = starter.look(data, discover())
        data = starter.relative_to(output.parent, data)
    typed = shlex.quote(str(output))
    written = starter.text(typed, preset, model, data, columns)
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(written)
    except OSError as error:
        raise ConfigError(f"{output} cannot be written", why=error.strerror or str(error)) from error
    click.echo(f"{output} is written. Next: ftcore check {typed}, ftcore estimate {typed} --gpu {shlex.quote(gpu)}")
    if columns is not None and not columns.formatter:
        click.echo(f"warning: {columns.why}; name the columns in {output}", err=True)
    elif columns is not None:
        click.echo(f"The data are read by the formatter {columns.formatter}: {columns.why}")
