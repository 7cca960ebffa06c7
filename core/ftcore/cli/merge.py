"""`ftcore merge RUN`."""

from __future__ import annotations

from pathlib import Path

import click

from ftcore.cli.options import run_argument
from ftcore.cli.tracing import discover, trace_option

SHORT = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


@click.command()
@run_argument
@click.option(
    "--dtype",
    type=click.Choice([*SHORT.values(), *SHORT]),
    help="Of the merged weights; by default the base model's own.",
)
@click.option(
    "--rounding",
    type=click.Choice(["stochastic", "nearest"]),
    help="How they are rounded to it; by default stochastically, which loses nothing on average.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Of the stochastic rounding.")
@click.option("--base", metavar="MODEL", help="A folder or Hub id with the full-precision weights to merge into.")
@click.option(
    "--data", metavar="DATA", help="Held-out rows to compare losses on; by default the run's validation data."
)
@click.option("--force", is_flag=True, help="Keep the merged model even if it loses what the adapter has learned.")
@trace_option
def merge(
    folder: Path,
    dtype: str | None,
    rounding: str | None,
    seed: int | None,
    base: str | None,
    data: str | None,
    force: bool,
) -> None:
    """Merge the adapter of a RUN directory into its base model.

    The merged model is written to RUN/merged and loads without PEFT. The losses of base model, adapter and merged model
    on held-out rows are compared; a merge that keeps less than 90 % of the adapter's gain is refused (exit code 7).
    `[merged]` in the run's configuration has the same settings; options given here go before them.
    """
    from ftcore.run import merging

    wanted = {
        "merged.dtype": SHORT.get(dtype, dtype) if dtype else None,
        "merged.rounding": rounding,
        "merged.seed": seed,
        "merged.base": base,
        "merged.least_gain": 0 if force else None,
        "fine_tuner.validation_data_id": data,
    }
    merging.merge(folder, discover(), [f"{key}={value}" for key, value in wanted.items() if value is not None])
