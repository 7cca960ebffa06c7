"""From the data to the trained model: everything cheap comes before the model, and the fit comes last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ftcore import __version__
from ftcore.audit import gate as audit
from ftcore.contracts import Examples, FitResult, Prepared, RunRecord
from ftcore.errors import Interrupted
from ftcore.estimate.batch import longest_of
from ftcore.fingerprint import fingerprint
from ftcore.processes import world_size
from ftcore.quiet import quiet_libraries
from ftcore.run import manifest
from ftcore.run.changes import data_changes, require_none
from ftcore.run.comparison import compared, measured, summary, tell
from ftcore.run.disk import require_room
from ftcore.run.finishing import model_card
from ftcore.run.imports import quick_imports
from ftcore.run.observer import RunObserver, shown
from ftcore.run.rehearsal import rehearse
from ftcore.run.steps import Work
from ftcore.run.trained import TrainedModel
from ftcore.settings.data import DataSettings

_NOTHING_TO_TRAIN = (
    "its model has nothing that could be trained: all {total:,} parameters are frozen, and Loader.model must add an adapter "
    "or leave the weights trainable"
)


def train(work: Work, resume_from: Path | None) -> TrainedModel:
    """Prepare the data, load the model, and fit; from a checkpoint on if one is given.

    Where the fit was over before, the model is only brought to where its last checkpoint says.

    Raises:
        Interrupted: a stop was asked for.
        FtcoreError: a stage failed.
    """
    active, config = work.active, work.config
    quiet_libraries()
    loader = work.stages.loader(active)
    _note_model(work)
    with quick_imports():
        tokenizer = loader.tokenizer()
    quiet_libraries()  # now that the loader has imported them, in the order that it needs
    work.reporting.start(work.stages.reporters(active), run_record(work))

    trainer, prepared = _prepared(work, tokenizer, resume_from)
    facts = audit.gate(work, prepared, tokenizer, again=resume_from is not None)
    active.record(largest_batch=vars(longest_of(prepared.train, config.fine_tuner.device_train_batch_size)))
    heed(work)
    model = loader.model()
    trainable, total = _parameters(model)
    if not trainable:
        raise work.stages.breach("loader", _NOTHING_TO_TRAIN.format(total=total))
    active.say(f"model      {total:,} parameters, {trainable:,} of them trained ({100 * trainable / total:.2f} %)")
    facts |= {"parameters": total, "trainable_parameters": trainable}
    active.record(data=facts, hardware=manifest.hardware())
    observer = RunObserver(active, work.reporting, work.stop)
    if active.is_main and work.steps.result("fit") is None:
        require_room(work, model, prepared)
    trainer.attach(model, prepared, observer)
    if work.steps.result("fit") is None:
        rehearse(active, config, trainer, model, prepared)

    before, new = measured(work, trainer, prepared, "before", config.run.evaluate_before)
    if new and before.metrics:
        active.say(f"before     {shown(before.metrics)}")
        observer.log(0, before.metrics)
    if world_size() == 1:  # several processes stop together or not at all: behind their first step
        heed(work)
    fit = _fit(work, trainer, resume_from)
    after, new = measured(work, trainer, prepared, "after")
    if new and after.metrics:
        active.say(f"after      {shown(after.metrics)}")
        observer.log(fit.steps, after.metrics)
    answers = compared(prepared.sample, before, after)
    tell(work, answers)

    metrics = summary(before, after, fit)
    active.record(metrics=metrics, steps=fit.steps, epochs=fit.epochs)
    return TrainedModel(
        model,
        tokenizer,
        config.fine_tuner.base_model_id,
        metrics,
        lambda: model_card(work, facts, metrics, answers),
    )


def heed(work: Work) -> None:
    """End here if a stop was asked for.

    Raises:
        Interrupted: it was.
    """
    if work.stop.is_set():
        raise Interrupted("the run was interrupted", fix=f"Type ftcore run CONFIG --resume {work.active.name}")


def _note_model(work: Work) -> None:
    """Note what the model's id led to: what a plugin resolves, it may resolve to something else tomorrow."""
    source, known = work.stages.model_source(), work.active.facts.get("model_source")
    if known is None:
        work.active.record(model_source=source)
    elif known != source:
        work.active.warn(f"the model was {known} when the run began, and its id leads to {source} now")


def _prepared(work: Work, tokenizer: Any, resume_from: Path | None) -> tuple[Any, Prepared]:
    """The trainer, and the data as it will train on them."""
    settings = work.config.fine_tuner
    train_rows, validation_rows = work.stages.datasets(work.active)
    seen = {"training": train_rows} | ({} if validation_rows is None else {"validation": validation_rows})
    rows = {purpose: fingerprint(rows) for purpose, rows in seen.items()}
    formatter = work.stages.formatter(work.active, train_rows)
    trainer = work.stages.trainer(work.active)
    examples = Examples(
        train=train_rows,
        validation=validation_rows,
        formatter=formatter,
        tokenizer=tokenizer,
        settings=settings.view(DataSettings),
        max_length=settings.max_sequence_length,
        samples=work.config.run.sample_answers,
    )
    prepared = trainer.prepare(examples)
    _same_data(work, rows, prepared, resume_from)
    return trainer, prepared


def _same_data(work: Work, rows: dict[str, str], prepared: Prepared, resume_from: Path | None) -> None:
    """Note what the data look like, and stop where a run would go on with others.

    Raises:
        InvalidConfig: they are not what the run was begun with, and that was not accepted.
    """
    examples = {"training": prepared.train} | (
        {} if prepared.validation is None else {"validation": prepared.validation}
    )
    now = {
        "data_fingerprints": rows,
        "example_fingerprints": {
            purpose: fingerprint(found.select_columns(["input_ids", "labels"])) for purpose, found in examples.items()
        },
        "processes": world_size(),
    }
    if resume_from is not None:
        found = data_changes(work.active.facts, now)
        resumptions = work.active.facts.get("resumptions", ())
        if not (resumptions and resumptions[-1]["accepted"]):
            require_none(work.active.name, found)
        for change in found:
            work.active.say(f"{'accepted' if change.matters else 'note':<10} {change}")
    work.active.record(**now)


def _fit(work: Work, trainer: Any, resume_from: Path | None) -> FitResult:
    """Train to the end.

    Raises:
        Interrupted: it was stopped before; a checkpoint was saved.
    """
    fit: FitResult = trainer.fit(resume_from)
    work.active.console.end()
    if fit.status == "interrupted":
        work.active.record(steps=fit.steps, epochs=fit.epochs)
        raise Interrupted(
            f"the run was interrupted after step {fit.steps}",
            why=f"a checkpoint is saved in {work.active.dir}",
            fix=f"Type ftcore run CONFIG --resume {work.active.name} to go on",
        )
    if (known := work.steps.result("fit")) is not None:
        return FitResult(known["steps"], known["epochs"], known["metrics"])  # with its times, which were taken then
    work.steps.done("fit", steps=fit.steps, epochs=fit.epochs, metrics=dict(fit.metrics))
    return fit


def run_record(work: Work) -> RunRecord:
    """What the reporters learn about the run."""
    served = {f"ftcore.{choice.stage}": choice.plugin for choice in work.stages.selected if choice.plugin}
    tags = {"ftcore.version": __version__, "ftcore.base_model_id": work.config.fine_tuner.base_model_id, **served}
    return RunRecord(work.active.name, work.active.dir.absolute(), work.active.settings, tags)


def _parameters(model: Any) -> tuple[int, int]:
    """Trainable and all parameters; a 4-bit weight's packed bytes count as the weights they hold."""
    trainable = total = 0
    for parameter in model.parameters():
        count = parameter.numel()
        if type(parameter).__name__ == "Params4bit":
            count *= 2 * parameter.element_size()
        total += count
        trainable += count if parameter.requires_grad else 0
    return trainable, total
