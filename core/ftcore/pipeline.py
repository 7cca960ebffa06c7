"""The run, from top to bottom."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from ftcore import __version__, audit, manifest, runs
from ftcore.card import CardFacts, render
from ftcore.check import check
from ftcore.config import Config
from ftcore.contracts import Examples, FitResult, Prepared, RunRecord, Saved
from ftcore.errors import FtcoreError, Interrupted
from ftcore.fingerprint import fingerprint
from ftcore.interrupt import stop_on_signal
from ftcore.observer import RunObserver, shown
from ftcore.plugins import Plugins
from ftcore.quiet import quiet_libraries
from ftcore.reporting import Reporting, Silence
from ftcore.runs import ActiveRun
from ftcore.selection import Choice
from ftcore.settings.data import DataSettings
from ftcore.stages import Stages
from ftcore.trained import TrainedModel


@dataclass(frozen=True)
class Measured:
    """The model at one moment: its metrics on the validation data, and its answers to the sampled questions."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    answers: Sequence[str] = ()


def run(config: Config, plugins: Plugins, command: Sequence[str] = ()) -> ActiveRun:
    """Check everything, make the run directory, and launch the training.

    Args:
        command: the command line that started this; launchers start it again elsewhere, to go on in the directory.

    Raises:
        FtcoreError: the run could not begin, or failed; the run directory says how far it came.
    """
    selected, warnings = check(config, plugins)
    started_at = datetime.now().astimezone()
    name = Stages(config, plugins, selected).run_name(started_at)
    active = runs.create(config, plugins, selected, name, started_at)
    for warning in warnings:
        active.warn(warning.removeprefix("warning: "))
    active.say(f"ftcore {__version__} · run {active.name} · {active.dir}")
    job = LocalJob(active, config, plugins, selected, [*command, "--in", str(active.dir)])
    try:
        Stages(config, plugins, selected).launch(active, job)
    except FtcoreError:
        if job.error is not None:
            raise job.error from None  # the job's own error says more than its launcher's
        raise
    finally:
        active.close()
    return active


def go_on(config: Config, plugins: Plugins, folder: Path) -> ActiveRun:
    """Train in a run directory that a launcher's process has made.

    Raises:
        FtcoreError: as `run`.
    """
    selected, _ = check(config, plugins)
    active = runs.enter(config, folder)
    try:
        train(active, config, plugins, selected)
    finally:
        active.close()
    return active


@dataclass
class LocalJob:
    """Implements `ftcore.contracts.Job`."""

    active: ActiveRun
    config: Config
    plugins: Plugins
    selected: Sequence[Choice]
    command: Sequence[str]
    error: BaseException | None = None

    def run_here(self) -> None:
        try:
            train(self.active, self.config, self.plugins, self.selected)
        except BaseException as error:
            self.error = error
            raise


def train(active: ActiveRun, config: Config, plugins: Plugins, selected: Sequence[Choice]) -> None:
    """Everything from the tokenizer to the saved model, with the run's end recorded however it ends."""
    stages = Stages(config, plugins, selected)
    reporting = Reporting(active.dir, active.say, active.warn) if active.is_main else Silence()
    stages.everyone("ftcore_run_started", run=active)
    try:
        with stop_on_signal() as stop:
            status = _train(active, config, stages, reporting, stop)
    except BaseException as error:
        interrupted = isinstance(error, Interrupted | KeyboardInterrupt)
        active.record(status="interrupted" if interrupted else "failed", error=str(error), ended_at=_now())
        active.note("the run ended with an error", exc_info=error)
        active.say(f"stopped    the log is {active.dir / 'run.log'}")
        reporting.finish("interrupted" if interrupted else "failed", min(10.0, config.run.report_timeout))
        stages.everyone("ftcore_run_failed", run=active, error=error)
        raise
    finally:
        active.console.end()
    active.record(status=status, ended_at=_now())
    reporting.finish(status, config.run.report_timeout)
    stages.everyone("ftcore_run_finished", run=active, status=status)
    if status == "interrupted":
        raise Interrupted("the run was interrupted", why=f"what was trained is saved in {active.dir}")


def _train(
    active: ActiveRun, config: Config, stages: Stages, reporting: Reporting | Silence, stop: threading.Event
) -> Any:
    settings = config.fine_tuner
    quiet_libraries()
    loader = stages.loader(active)
    tokenizer = loader.tokenizer()
    quiet_libraries()  # now that the loader has imported them, in the order that it needs
    reporting.start(stages.reporters(active), _record(active, config, stages))

    train_rows, validation_rows = stages.datasets(active)
    seen = {"training": train_rows} | ({} if validation_rows is None else {"validation": validation_rows})
    active.record(data_fingerprints={purpose: fingerprint(rows) for purpose, rows in seen.items()})
    formatter = stages.formatter(active, train_rows)
    trainer = stages.trainer(active)
    prepared = trainer.prepare(
        Examples(
            train=train_rows,
            validation=validation_rows,
            formatter=formatter,
            tokenizer=tokenizer,
            settings=settings.view(DataSettings),
            max_length=settings.max_sequence_length,
            samples=config.run.sample_answers,
        )
    )
    facts = _audit(active, config, prepared, tokenizer)

    model = loader.model()
    trainable, total = _parameters(model)
    active.say(f"model      {total:,} parameters, {trainable:,} of them trained ({100 * trainable / total:.2f} %)")
    facts |= {"parameters": total, "trainable_parameters": trainable}
    active.record(data=facts, hardware=manifest.hardware())
    observer = RunObserver(active, reporting, stop)
    trainer.attach(model, prepared, observer)

    before = _measure(trainer, prepared, config, config.run.evaluate_before)
    if before.metrics:
        active.say(f"before     {shown(before.metrics)}")
        observer.log(0, before.metrics)
    fit = trainer.fit(None)
    active.console.end()
    after = _measure(trainer, prepared, config, fit.status == "finished")
    if after.metrics:
        active.say(f"after      {shown(after.metrics)}")
        observer.log(fit.steps, after.metrics)
    answers = _compare(active, prepared, before, after)

    metrics = _summary(before, after, fit)
    active.record(metrics=metrics, steps=fit.steps, epochs=fit.epochs)
    trained = TrainedModel(
        model, tokenizer, settings.base_model_id, metrics, lambda: _card(active, config, facts, metrics, answers)
    )
    if active.is_main:
        saved = _save(active, stages, trained, reporting)
        active.record(saved=[vars(item) for item in saved])
    return fit.status


def _record(active: ActiveRun, config: Config, stages: Stages) -> RunRecord:
    served = {f"ftcore.{choice.stage}": choice.plugin for choice in stages.selected if choice.plugin}
    tags = {"ftcore.version": __version__, "ftcore.base_model_id": config.fine_tuner.base_model_id, **served}
    return RunRecord(active.name, active.dir.absolute(), active.settings, tags)


def _audit(active: ActiveRun, config: Config, prepared: Prepared, tokenizer: Any) -> dict[str, Any]:
    facts: dict[str, Any] = dict(prepared.facts)
    seen = audit.supervision(prepared.train)
    sample = repr(tokenizer.decode(prepared.train[0]["input_ids"])[:400]) if seen.rows else ""
    audit.require_supervision(seen, facts, config.audit, config.fine_tuner.max_sequence_length, sample)
    facts |= {"training_rows": seen.rows, "tokens": seen.tokens, "supervised_tokens": seen.supervised}
    facts["longest"] = seen.longest
    text = f"{seen.rows:,} rows, {seen.tokens:,} tokens, {100 * seen.share:.1f} % supervised, longest {seen.longest}"
    if prepared.validation is not None:
        held_out = audit.supervision(prepared.validation)
        facts |= {"validation_rows": held_out.rows, "validation_tokens": held_out.tokens}
        text += f"; validation {held_out.rows:,} rows"
    active.say(f"data       {text}")
    for count, what in ((facts.get("truncated_rows"), "cut"), (seen.unsupervised_rows, "without a supervised token")):
        if count:
            active.warn(f"{count} training examples are {what} (max_sequence_length)")
    return facts


def _measure(trainer: Any, prepared: Prepared, config: Config, evaluate: bool) -> Measured:
    metrics = trainer.evaluate() if evaluate and prepared.validation is not None else {}
    questions = [conversation[:-1] for conversation in prepared.sample]
    answers = trainer.generate(questions, config.run.sample_tokens) if questions and evaluate else []
    return Measured(metrics, answers)


def _compare(active: ActiveRun, prepared: Prepared, before: Measured, after: Measured) -> list[tuple[str, str, str]]:
    compared: list[tuple[str, str, str]] = []
    if not after.answers:
        return compared
    for index, conversation in enumerate(prepared.sample):
        question = next(turn["content"] for turn in reversed(conversation[:-1]) if turn["role"] == "user")
        first = before.answers[index] if before.answers else ""
        compared.append((question, first, after.answers[index]))
        active.say(f"\nQ      {question}")
        active.say(f"before {' '.join(first.split())}" if first else "before (not asked)")
        active.say(f"after  {' '.join(after.answers[index].split())}")
    return compared


def _summary(before: Measured, after: Measured, fit: FitResult) -> dict[str, float]:
    metrics = dict(fit.metrics)
    if "eval_loss" in before.metrics:
        metrics["eval_loss_before"] = before.metrics["eval_loss"]
    if "eval_loss" in after.metrics:
        metrics["eval_loss"] = after.metrics["eval_loss"]
    return metrics


def _card(
    active: ActiveRun,
    config: Config,
    facts: Mapping[str, Any],
    metrics: Mapping[str, float],
    answers: Sequence[tuple[str, str, str]],
) -> str:
    own = {key: value for key, value in active.settings.items() if key.startswith("fine_tuner.")}
    return render(
        CardFacts(
            name=active.name,
            base_model_id=config.fine_tuner.base_model_id,
            kind="full" if config.fine_tuner.full_finetuning else "adapter",
            training_data_id=config.fine_tuner.training_data_id,
            validation_data_id=config.fine_tuner.validation_data_id,
            data=facts,
            settings={key.removeprefix("fine_tuner."): value for key, value in own.items()},
            metrics=metrics,
            libraries=manifest.library_versions(),
            answers=answers,
        )
    )


def _save(active: ActiveRun, stages: Stages, trained: TrainedModel, reporting: Reporting | Silence) -> list[Saved]:
    saved: list[Saved] = []
    for name in stages.names("saver"):
        for item in stages.save(name, active, trained):
            active.say(f"saved      {item.what}: {item.where}")
            saved.append(item)
    for name in ("config.toml", "manifest.json"):
        reporting.artifact(active.dir / name, name)
    if (active.dir / "model").exists():
        reporting.artifact(active.dir / "model", "model")
    return saved


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


def _now() -> str:
    return datetime.fromtimestamp(time.time()).astimezone().isoformat()
