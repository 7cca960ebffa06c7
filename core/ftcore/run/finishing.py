"""What follows the fit: saving, merging, pushing, reporting. Each is a step, done once, and again where it failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ftcore.contracts import Saved, Trained
from ftcore.errors import Interrupted, SaveError
from ftcore.run import manifest
from ftcore.run.card import CardFacts, render
from ftcore.run.steps import Work


def finish(work: Work, trained: Trained) -> None:
    """Let every saver save that has not done so, and hand the results to the reporters.

    A saver that fails keeps none of the others from saving.

    Raises:
        SaveError: a saver could not save; what the others wrote is recorded.
        Interrupted: a stop was asked for between two savers.
    """
    active = work.active
    if not active.is_main:
        return
    failures: list[SaveError] = []
    for name in work.stages.names("saver"):
        if work.steps.result(f"save:{name}") is not None:
            active.say(f"saved      by {name} before")
            continue
        if work.stop.is_set():
            raise Interrupted(
                f"the run was interrupted before {name} has saved the model",
                why="the training itself is over",
                fix=f"Type ftcore finish {active.dir}",
            )
        try:
            save(work, name, trained)
        except SaveError as error:
            failures.append(error)
    active.record(saved=[vars(item) for item in everything_saved(work)])
    _report(work)
    if failures:
        for failure in failures[1:]:
            active.warn(str(failure))
        active.say(f"unfinished when that is mended: ftcore finish {active.dir}")
        raise failures[0]


def save(work: Work, name: str, trained: Trained) -> None:
    """Let one saver save, and note that it has.

    Raises:
        SaveError: it could not.
    """
    saved = work.stages.save(name, work.active, trained)
    for item in saved:
        work.active.say(f"saved      {item.what}: {item.where}")
    work.steps.done(f"save:{name}", saved=[vars(item) for item in saved])


def everything_saved(work: Work) -> list[Saved]:
    """What the savers have written so far, in their order; last what was pushed by hand."""
    names = dict.fromkeys([*work.stages.names("saver"), "hub"])
    results = [work.steps.result(f"save:{name}") for name in names]
    return [Saved(item["what"], item["where"]) for result in results if result for item in result["saved"]]


def _report(work: Work) -> None:
    """Give the reporters the run's files, once; what they have taken of them is for each to know."""
    if work.steps.result("artifacts") is not None:
        return
    names = [name for name in ("config.toml", "manifest.json", "model") if (work.active.dir / name).exists()]
    work.steps.done("artifacts", names=names)
    for name in names:
        work.reporting.artifact(work.active.dir / name, name)


def model_card(
    work: Work, facts: Mapping[str, Any], metrics: Mapping[str, float], answers: Sequence[tuple[str, str, str]]
) -> str:
    """The card of the trained model, from the data's facts, the run's metrics and the answers before and after."""
    settings = work.config.fine_tuner
    own = {key: value for key, value in work.active.settings.items() if key.startswith("fine_tuner.")}
    return render(
        CardFacts(
            name=work.active.name,
            base_model_id=settings.base_model_id,
            kind="full" if settings.full_finetuning else "adapter",
            training_data_id=settings.training_data_id,
            validation_data_id=settings.validation_data_id,
            data=facts,
            settings={key.removeprefix("fine_tuner."): value for key, value in own.items()},
            metrics=metrics,
            libraries=manifest.library_versions(),
            answers=answers,
        )
    )
