"""Supervised fine-tuning, as ftcore's pipeline calls it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ftcore import checkpoints
from ftcore.contracts import BadRows, Conversation, Examples, FitResult, Observer, Prepared, Rehearsed, Run
from ftcore.errors import TrainingError
from ftcore.settings.audit import AuditSettings
from ftcore.settings.logging import LoggingSettings
from ftcore.settings.saving import SavingSettings
from ftcore.settings.training import TrainingSettings
from ftcore_sft import cache
from ftcore_sft.lengths import token_counts
from ftcore_sft.markers import Markers
from ftcore_sft.prepare import Recipe, Tally
from ftcore_sft.settings import SftSettings
from ftcore_sft.verified import trained_markers

if TYPE_CHECKING:
    from datasets import Dataset
    from torch.nn import Module

    from ftcore_sft.health import NotFinite

_SAMPLE_TOKENS = 64
_SHOWN_ROWS = 16


class SupervisedTrainer:
    """Implements `ftcore.contracts.Trainer`."""

    def __init__(
        self,
        run: Run,
        training: TrainingSettings,
        logging: LoggingSettings,
        saving: SavingSettings,
        audit: AuditSettings,
        settings: SftSettings,
    ) -> None:
        self._run, self._training, self._logging, self._saving = run, training, logging, saving
        self._settings = settings  # what `audit` allows, the run judges by `Prepared.bad_rows`
        self._tokenizer: Any = None
        self._trainer: Any = None
        self._callback: Any = None
        self._max_length = 0

    def prepare(self, examples: Examples) -> Prepared:
        self._tokenizer, self._max_length = examples.tokenizer, examples.max_length
        markers = self._markers(examples.tokenizer)
        recipe = Recipe(examples.formatter, examples.tokenizer, markers, examples.max_length)
        num_proc = examples.settings.dataset_num_proc
        data = examples.settings
        train, tally = cache.cached(examples.train, recipe, num_proc, data.training_data_id)
        bad = self._bad_rows(tally, "training")
        facts: dict[str, int | float | str] = dict(tally.counts())
        validation = None
        if examples.validation is not None:
            validation, found = cache.cached(examples.validation, recipe, num_proc, data.validation_data_id or "")
            bad += self._bad_rows(found, "validation")
        if markers is not None:
            facts |= {"question_part": markers.question, "answer_part": markers.answer}
        sample = self._sample(examples)
        if self._training.packing and len(train):
            packed = cache.packed(train, examples.max_length, data.training_data_id)
            filled = int(token_counts(packed).sum()) / (len(packed) * examples.max_length)
            facts |= {"packed_rows": len(packed), "packing_efficiency": round(filled, 4)}
            self._run.say(f"packing    {len(train):,} examples in {len(packed):,} rows, {filled:.1%} full")
            order = partial(self._order, packed)
            return Prepared(packed, validation, sample, facts, examples=train, order=order, bad_rows=bad)
        return Prepared(train, validation, sample, facts, order=partial(self._order, train), bad_rows=bad)

    def attach(self, model: Module, prepared: Prepared, observer: Observer) -> None:
        from transformers import PrinterCallback, ProgressCallback

        from ftcore_sft.arguments import mixed_precision, sft_config
        from ftcore_sft.collate import Collator
        from ftcore_sft.cpu import speed_up
        from ftcore_sft.hf_trainer import FtcoreSFTTrainer, ObserverCallback
        from ftcore_sft.isolation import needs_one_row
        from ftcore_sft.lora.choose import compute_adapters
        from ftcore_sft.loss import SupervisedLoss
        from ftcore_sft.optimizers import runnable

        causal: Any = model
        vocabulary = causal.config.vocab_size
        compute_adapters(causal, self._settings.round_once, self._settings.fast_cpu, self._run)
        segments = self._settings.fast_cpu and speed_up(causal, vocabulary, self._run)
        flatten = self._training.packing and not segments and needs_one_row(causal, vocabulary)
        collator = Collator(self._tokenizer.pad_token_id, flatten, segments)
        sample = {key: value.to(causal.device) for key, value in Collator(0)(_shortened(prepared)).items()}
        args = sft_config(
            self._run.dir / "checkpoints",
            self._training,
            self._logging,
            self._saving,
            self._settings,
            runnable(self._training.optimizer, self._settings.optimizer_fallback, self._run),
            mixed_precision(causal, self._training),
            prepared.validation is not None,
        )
        self._trainer = FtcoreSFTTrainer(
            model=model,
            args=args,
            train_dataset=_tokens_only(prepared.train),
            eval_dataset=None if prepared.validation is None else _tokens_only(prepared.validation),
            processing_class=self._tokenizer,
            data_collator=collator,
            supervised_loss=SupervisedLoss(causal, sample),
            lengths=self._lengths(prepared.train),
            keep_checkpoints=self._saving.save_total_limit,
            refuse=partial(self._refuse, prepared) if self._settings.stop_on_nonfinite else None,
        )
        for callback in (PrinterCallback, ProgressCallback):
            self._trainer.remove_callback(callback)
        self._callback = ObserverCallback(observer, self._trainer)
        self._trainer.add_callback(self._callback)

    def evaluate(self) -> Mapping[str, float]:
        if self._trainer.eval_dataset is None:
            return {}
        return self._trainer.evaluate_once()  # type: ignore[no-any-return]

    def rehearse(self, part: Literal["training", "evaluation"]) -> Rehearsed | None:
        from ftcore_sft.rehearsal import rehearse

        return rehearse(self._trainer, part)

    def fit(self, resume_from: Path | None) -> FitResult:
        from transformers import set_seed

        from ftcore_sft.resuming import over

        self._callback.resumed_from = resume_from
        if resume_from is None:
            # Whatever was computed before, training is the same; what is random in it differs between processes.
            set_seed(self._training.seed + self._trainer.args.process_index)
        elif (result := over(self._trainer, resume_from)) is not None:
            return result
        try:
            output = self._trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
        except (RuntimeError, MemoryError) as error:
            if "memory" in str(error).lower() or isinstance(error, MemoryError):
                self._keep(error)
            raise
        state = self._trainer.state
        stopped = state.global_step < state.max_steps
        metrics = {key: float(value) for key, value in output.metrics.items() if key in _KEPT}
        return FitResult(
            state.global_step, float(state.epoch or 0.0), metrics, "interrupted" if stopped else "finished"
        )

    def _refuse(self, prepared: Prepared, found: NotFinite) -> None:
        """End the training for a number that is not finite."""
        from ftcore_sft.rows import rows_of_step

        rows = rows_of_step(self._trainer, prepared, found.step, self._max_length)
        self._run.say(f"step {found.step} was made of the training rows {', '.join(map(str, rows))}")
        last = checkpoints.newest(self._run.dir / "checkpoints").folder
        some = ", ".join(map(str, rows[:_SHOWN_ROWS])) + (
            f" and {len(rows) - _SHOWN_ROWS} more" * (len(rows) > _SHOWN_ROWS)
        )
        raise TrainingError(
            f"the {found.what} is {found.value} at step {found.step}",
            why=f"it was made of the training rows {some}; "
            + (f"the last good checkpoint is {last}" if last else "there is no checkpoint from before"),
            fix="Look at these rows, lower learning_rate, or train on with [sft] stop_on_nonfinite = false",
        )

    def _keep(self, error: BaseException) -> None:
        """Out of memory in the middle of a step: what the steps before it learned is still whole, and saved."""
        from ftcore_sft.hf_trainer import in_optimizer

        state = self._trainer.state
        if not state.global_step or in_optimizer(error) or self._trainer.accelerator.num_processes > 1:
            return  # several processes could only save together
        try:
            self._trainer.save_checkpoint_now()
        except Exception as failed:  # the error that ends the run is the one that is being handled
            self._run.warn(f"no checkpoint of step {state.global_step} could be saved: {failed}")

    def generate(self, conversations: Sequence[Conversation], max_new_tokens: int) -> list[str]:
        from ftcore_sft.generate import answers

        return answers(self._trainer.model, self._tokenizer, conversations, max_new_tokens)

    def _lengths(self, train: Dataset) -> Any:
        grouped = self._settings.group_by_length and not self._training.packing
        return token_counts(train) if grouped else None

    def _order(self, train: Dataset) -> Sequence[int]:
        """The first epoch's, on one device; where it is random, one that is as good as the trainer's own."""
        from array import array

        import torch

        from ftcore_sft.sampler import LengthGroupedSampler

        lengths, seed = self._lengths(train), self._training.seed
        if lengths is None:
            return torch.randperm(len(train), generator=torch.Generator().manual_seed(seed)).numpy()  # type: ignore[no-any-return]
        return array("q", LengthGroupedSampler(lengths, self._training.device_train_batch_size, seed))

    def _markers(self, tokenizer: Any) -> Markers | None:
        if not self._training.train_on_responses_only:
            return None
        question, answer = self._training.question_part, self._training.answer_part
        markers = trained_markers(tokenizer, question, answer)
        if question is None or answer is None:
            self._run.say(f"responses  between {markers.answer!r} and {markers.question!r}, read off the chat template")
        if markers.generation:
            self._run.say("           of these, what the chat template marks with {% generation %}")
        return markers

    def _bad_rows(self, tally: Tally, purpose: Literal["training", "validation"]) -> list[BadRows]:
        if tally.quoting_rows:
            self._run.warn(
                f"{tally.quoting_rows} {purpose} rows quote the chat template's own markers in their texts; "
                "they were told apart from turns, and only the assistant's turns are trained on"
            )
        return [BadRows(purpose, tally.bad_rows, tally.rows, tuple(tally.bad))] if tally.bad_rows else []

    def _sample(self, examples: Examples) -> list[Conversation]:
        if examples.validation is None:
            return []
        sample: list[Conversation] = []
        for row in examples.validation:
            if len(sample) == examples.samples:
                break
            try:
                conversation = examples.formatter(row)
            except ValueError:
                continue
            if conversation[-1]["role"] == "assistant":
                sample.append(conversation)
        return sample


def _tokens_only(dataset: Dataset) -> Dataset:
    """Without the columns that only say where a row comes from, which TRL would hand on."""
    return dataset.select_columns(
        [name for name in ("input_ids", "labels", "position_ids") if name in dataset.column_names]
    )


def _shortened(prepared: Prepared) -> list[dict[str, list[int]]]:
    """The shortest example's end, as a batch of one that costs little."""
    rows = prepared.train.select(range(min(16, len(prepared.train))))
    row = min(rows, key=lambda row: len(row["input_ids"]))
    return [{key: row[key][-_SAMPLE_TOKENS:] for key in ("input_ids", "labels")}]


_KEPT = ("train_loss", "train_runtime", "train_samples_per_second", "train_steps_per_second")
