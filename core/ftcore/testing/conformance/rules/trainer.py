"""Rules for trainers: labels that are what they should be, and a fit that learns, tells, stops and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ftcore.contracts import IGNORED, FitResult
from ftcore.errors import FtcoreError
from ftcore.testing.conformance.fitting import LENGTH, fitting
from ftcore.testing.conformance.rule import NotTried, raised, rule
from ftcore.testing.conformance.subject import Subject
from ftcore.testing.conformance.weights import changed, trainable, unsettle, weights

LEARNED = 0.95
"""The share of the loss that may be left after some passes over a few rows."""


@rule(
    "trainer-prepares",
    why="a label that is not the token behind it is learned all the same",
    fix="return datasets with `input_ids` and `labels`, IGNORED (-100) where nothing is learned",
)
def prepares(subject: Subject) -> Iterator[str]:
    """Its rows have tokens, and labels that are those tokens or ignored, none longer than asked for."""
    prepared = fitting(subject).prepared
    for part, rows in (("training", prepared.train), ("validation", prepared.validation)):
        for number, row in enumerate(rows or (), start=1):
            ids, labels = list(row["input_ids"]), list(row["labels"])
            if len(ids) != len(labels):
                yield f"{part} row {number} has {len(ids)} tokens and {len(labels)} labels"
            elif wrong := [at for at, label in enumerate(labels) if label not in (IGNORED, ids[at])]:
                yield f"{part} row {number} has the label {labels[wrong[0]]} for the token {ids[wrong[0]]}"
            elif all(label == IGNORED for label in labels):
                yield f"{part} row {number} has nothing to learn"
            if len(ids) > LENGTH:
                yield f"{part} row {number} has {len(ids)} tokens, and max_sequence_length is {LENGTH}"


@rule(
    "trainer-prepares-the-same",
    why="a run that goes on compares its examples with those that it was begun with, and refuses others",
    fix="no randomness in prepare; the order of the batches is fit's matter",
)
def prepares_the_same(subject: Subject) -> Iterator[str]:
    """The same rows become the same examples, in the same order."""
    first, second = (fitting(subject).prepared for _ in range(2))
    for part in ("train", "validation"):
        one, other = (getattr(prepared, part) for prepared in (first, second))
        if one["input_ids"][:] != other["input_ids"][:] or one["labels"][:] != other["labels"][:]:
            yield f"the {part} examples are others the second time"


@rule(
    "trainer-learns",
    why="that is what it is for",
    fix="look at the labels, the gradients, and whether the optimizer has the trainable weights; an optimizer that takes "
    "other steps is given `config.fine_tuner.learning_rate` in [tool.ftcore.conformance.NAME]",
)
def learns(subject: Subject) -> Iterator[str]:
    """Some passes over a few rows lower their loss; the frozen weights stay as they are."""
    given = {"epochs": 8, "learning_rate": 0.01, **subject.setup.config.get("fine_tuner", {})}
    fit = fitting(subject, given)
    fit.attach()
    frozen = {name: value for name, value in weights(fit.model).items() if name not in trainable(fit.model)}
    before = fit.trainer.evaluate()["eval_loss"]
    fit.trainer.fit(None)
    after = fit.trainer.evaluate()["eval_loss"]
    if not after <= LEARNED * before:
        passes = f"{given['epochs']} passes with the learning rate {given['learning_rate']}"
        yield (
            f"the loss of the rows that it learned from was {before:.3f} and is {after:.3f} "
            f"after {passes}: more than {LEARNED:.0%} of it are left"
        )
    now = weights(fit.model)
    if different := changed(frozen, {name: now[name] for name in frozen}):
        yield f"{len(different)} weights that are not to be trained have changed, e.g. {sorted(different)[0]}"


@rule(
    "trainer-tells",
    why="the progress, the metrics, the trackers and the speed come from what it tells",
    fix="call observer.begin once, step after every optimizer step, log every log_steps with `loss`, checkpoint when one is complete",
)
def tells(subject: Subject) -> Iterator[str]:
    """It tells the observer when it begins, of every step and its tokens, of losses, and of checkpoints."""
    fit = fitting(subject, {"log_steps": 1, "save_steps": 2})
    fit.attach()
    result: FitResult = fit.trainer.fit(None)
    told = fit.observer
    if told.begun != [(result.steps, 0)]:
        yield f"begin was called with {told.begun}, and there were {result.steps} steps"
    if [step for step, _ in told.steps] != list(range(1, result.steps + 1)):
        yield f"step was called for {[step for step, _ in told.steps]} of {result.steps} steps"
    if any(tokens <= 0 for _, tokens in told.steps):
        yield "steps without tokens were told of"
    if not any("loss" in metrics for _, metrics in told.logged):
        yield "no `loss` was logged"
    if result.status != "finished":
        yield f"it ended as {result.status!r}"
    if not told.checkpoints or told.checkpoints[-1][0] != result.steps:
        yield f"the last checkpoint is of step {told.checkpoints[-1][0] if told.checkpoints else 'none'}, not {result.steps}"
    for step, folder in told.checkpoints:
        wanted = fit.scene.run.dir / "checkpoints" / f"checkpoint-{step}"
        if folder.absolute() != wanted.absolute():
            yield f"the checkpoint of step {step} is {folder}, not {wanted}"


@rule(
    "trainer-stops",
    why="Ctrl-C, a deadline and a preempted machine all end a run by asking for a stop",
    fix='ask observer.should_stop() after every step; then write a checkpoint, and return status="interrupted"',
)
def stops(subject: Subject) -> Iterator[str]:
    """Asked to stop, it ends after the step, with a checkpoint of it."""
    fit = fitting(subject, {"save_steps": 100})
    fit.observer.stop_after = 2
    fit.attach()
    result: FitResult = fit.trainer.fit(None)
    if (result.status, result.steps) != ("interrupted", 2):
        yield f"asked to stop after step 2, it ended as {result.status!r} after step {result.steps}"
    if 2 not in [step for step, _ in fit.observer.checkpoints]:
        yield "there is no checkpoint of the step at which it stopped"


@rule(
    "trainer-resumes",
    why="an interrupted run must not be worth less than one that was not",
    fix="save and restore optimizer, schedule, random states and the place in the data",
)
def resumes(subject: Subject) -> Iterator[str]:
    """Stopped and gone on, it comes to the weights that it comes to undisturbed."""
    whole = fitting(subject, _FEW)
    whole.attach()
    result: FitResult = whole.trainer.fit(None)
    stopped = fitting(subject, _FEW)
    stopped.observer.stop_after = 2
    stopped.attach()
    stopped.trainer.fit(None)
    resumed = fitting(subject, _FEW, scene=stopped.scene)
    resumed.attach()
    again: FitResult = resumed.trainer.fit(stopped.scene.run.dir / "checkpoints" / "checkpoint-2")
    if resumed.observer.begun != [(result.steps, 2)]:
        yield f"going on from step 2 of {result.steps}, begin was called with {resumed.observer.begun}"
    if again.steps != result.steps:
        yield f"it ended after step {again.steps}, and undisturbed after {result.steps}"
    if different := changed(trainable(whole.model), trainable(resumed.model), tolerance=1e-6):
        yield f"{len(different)} weights are others than those of the undisturbed run, e.g. {sorted(different)[0]}"


_FEW = {"epochs": 1, "save_steps": 100, "save_total_limit": 10}


@rule(
    "trainer-repeats",
    why="nobody could tell a change from chance",
    fix="seed everything with training.seed where fit begins",
)
def repeats(subject: Subject) -> Iterator[str]:
    """The same seed gives the same weights."""
    learned = []
    for _ in range(2):
        fit = fitting(subject, _FEW)
        fit.attach()
        unsettle()
        fit.trainer.fit(None)
        learned.append(trainable(fit.model))
    if different := changed(learned[0], learned[1], tolerance=1e-6):
        yield f"of two fits with one seed, {len(different)} weights differ, e.g. {sorted(different)[0]}"


@rule(
    "trainer-evaluates",
    why="the loss before and after is what shows that training was worth it",
    fix="average over supervised tokens without gradients, and leave model and random states as they were",
)
def evaluates(subject: Subject) -> Iterator[str]:
    """An evaluation has `eval_loss`, the same twice, and changes nothing; without validation data it is empty."""
    import torch

    fit = fitting(subject)
    fit.attach()
    before, state = weights(fit.model), torch.get_rng_state()
    first, second = dict(fit.trainer.evaluate()), dict(fit.trainer.evaluate())
    if not isinstance(first.get("eval_loss"), float):
        yield f"the metrics are {first}, without a number eval_loss"
    elif first["eval_loss"] != second["eval_loss"]:
        yield f"eval_loss was {first['eval_loss']}, and then {second['eval_loss']}"
    if changed(before, weights(fit.model)):
        yield "it changes weights"
    if not torch.equal(state, torch.get_rng_state()):
        yield "it draws random numbers, so that training goes another way with it than without"
    alone = fitting(subject, validation=False)
    alone.attach()
    if metrics := dict(alone.trainer.evaluate()):
        yield f"without validation data it gives {metrics}"


@rule(
    "trainer-generates",
    why="sample answers are what people look at first",
    fix="apply the chat template with the generation prompt, and decode only what is new",
)
def generates(subject: Subject) -> Iterator[str]:
    """It answers each conversation with a text, the same each time."""
    fit = fitting(subject)
    fit.attach()
    asked: Any = [[{"role": "user", "content": text}] for text in ("How many are 1 and 1?", "Thank you.")]
    first, second = (list(fit.trainer.generate(asked, 8)) for _ in range(2))
    if len(first) != len(asked) or not all(isinstance(answer, str) for answer in first):
        yield f"two questions were answered with {first!r}"
    elif first != second:
        yield f"the answers were {first!r}, and then {second!r}"


@rule(
    "trainer-rehearses",
    why="the dry step is on by default, and training must go the same way with it",
    fix="restore random states, mode and gradients, and take no optimizer step",
)
def rehearses(subject: Subject) -> Iterator[str]:
    """Its rehearsal, if it has one, changes no weight, no gradient and no random state."""
    import torch

    fit = fitting(subject)
    fit.attach()
    if not hasattr(fit.trainer, "rehearse"):
        raise NotTried("the trainer has no rehearse")
    before, state, mode = weights(fit.model), torch.get_rng_state(), fit.model.training
    for part in ("training", "evaluation"):
        batch = fit.trainer.rehearse(part)
        if batch is not None and (batch.rows < 1 or batch.tokens < 1):
            yield f"the largest {part} batch is {batch}"
    if changed(before, weights(fit.model)):
        yield "it changes weights"
    if any(value.grad is not None and value.grad.abs().sum() > 0 for value in fit.model.parameters()):
        yield "it leaves gradients behind"
    if not torch.equal(state, torch.get_rng_state()):
        yield "it draws random numbers"
    if fit.model.training != mode:
        yield "it leaves the model in another mode"


@rule(
    "trainer-skips-bad-rows",
    why="one bad row among thousands should cost that row, as [audit] says, not the run",
    fix="catch the formatter's ValueError; skip the row, or raise DataError",
)
def skips_bad_rows(subject: Subject) -> Iterator[str]:
    """A row that the formatter refuses is left out, or is a DataError."""
    try:
        prepared = fitting(subject, bad_row=True).prepared
    except FtcoreError:
        return
    except Exception as error:
        yield f"the formatter raised ValueError, and {raised(error)}, which is no FtcoreError"
        return
    if len(prepared.train) == 0:
        yield "with one bad row, no row is left"
