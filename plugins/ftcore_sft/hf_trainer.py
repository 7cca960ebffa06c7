"""TRL's SFTTrainer with ftcore's loss, order of examples and evaluation."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader, SequentialSampler
from transformers import TrainerCallback
from trl import SFTTrainer

from ftcore.contracts import Observer
from ftcore_sft.health import NotFinite, Watch
from ftcore_sft.loss import SupervisedLoss
from ftcore_sft.sampler import LengthGroupedSampler
from ftcore_sft.shares import Share, ShuffledSampler, WithFillers
from ftcore_sft.stopping import AgreedStop
from ftcore_sft.whole_checkpoints import WholeCheckpoints


class FtcoreSFTTrainer(WholeCheckpoints, SFTTrainer):  # type: ignore[misc]
    """Trains on prepared examples.

    Args:
        supervised_loss: computes the loss of a batch.
        lengths: of the training examples in tokens, to batch similar ones together; None for a random order.
        keep_checkpoints: how many; the oldest go.
        refuse: called with a loss or gradient that is not finite, and raises; None trains on.
    """

    data_collator: Any

    def __init__(
        self,
        *args: Any,
        supervised_loss: SupervisedLoss,
        lengths: list[int] | None,
        keep_checkpoints: int,
        refuse: Callable[[NotFinite], None] | None,
        **kwargs: Any,
    ) -> None:
        self._supervised_loss, self._lengths = supervised_loss, lengths
        self.keep_checkpoints = keep_checkpoints
        self._refuse = refuse
        self._evaluated: tuple[int, dict[str, float]] = (-1, {})
        self._sizes: deque[int] = deque()
        self.tokens = 0
        """How many tokens, padding not counted, went through the model in training so far."""
        trained = {one: one.data for one in kwargs["model"].parameters() if one.requires_grad}
        super().__init__(*args, **kwargs)
        # Beside quantized weights TRL makes the adapter bfloat16, where most of what an optimizer adds to it would be lost.
        for parameter, data in trained.items():
            if parameter.dtype != data.dtype:
                parameter.data = data
        self.model_accepts_loss_kwargs = True  # compute_loss below divides by the tokens of all accumulated batches
        self.watch = Watch(scaled=getattr(self.accelerator, "scaler", None) is not None)
        if refuse is not None:
            self._watch_gradients()

    def _watch_gradients(self) -> None:
        # Wherever a version of transformers clips gradients or asks for their norm, it is by this function.
        clip = self.accelerator.clip_grad_norm_

        def watched(*args: Any, **kwargs: Any) -> Any:
            norm = clip(*args, **kwargs)
            self.watch.set_norm(norm)
            return norm

        self.accelerator.clip_grad_norm_ = watched

    def heed(self, found: NotFinite | None) -> None:
        """Raise for a number that is not finite, where that is wanted."""
        if found is not None and self._refuse is not None:
            self._refuse(found)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        self.tokens += self._sizes.popleft() if self._sizes else 0
        loss, count = self._supervised_loss(model, inputs)
        loss = loss / (num_items_in_batch if num_items_in_batch is not None else count)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = (
                loss * self.accelerator.num_processes
            )  # gradients are averaged over processes, tokens counted over all
        self.watch.add_loss(loss)
        return (loss, {}) if return_outputs else loss

    def autocast_smart_context_manager(self, *args: Any, **kwargs: Any) -> Any:
        # accelerate casts in the model's outermost forward, and the loss here calls what is inside of it.
        return self.accelerator.autocast()

    def evaluate_once(self) -> dict[str, float]:
        """The metrics at this step, computed again only if they were not just computed."""
        step, metrics = self._evaluated
        return metrics if step == self.state.global_step else self.evaluate()

    def evaluate(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> dict[str, float]:
        """The mean loss per supervised token; unlike a mean over batches it does not depend on the batch size."""
        model, was_training = self.model, self.model.training
        model.eval()
        total = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        # A data loader draws a random number when it starts; how often one evaluates must not change the training.
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            for batch in self.get_eval_dataloader():
                batch = self._prepare_inputs(batch)
                with self.compute_loss_context_manager():
                    loss, count = self._supervised_loss(self.model, batch)
                total += torch.stack([loss.double(), count.double()])
        total = self.accelerator.reduce(total)
        model.train(was_training)
        metrics = {f"{metric_key_prefix}_loss": float(total[0] / total[1].clamp(min=1))}
        self.log(dict(metrics))
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self._evaluated = (self.state.global_step, metrics)
        self.evaluated_at = self.state.global_step
        return metrics

    def rehearse_training(self, batch: Any) -> None:
        """Forward and backward; where batches are accumulated, with the gradients of one before held."""
        self.model.train()
        if self.args.gradient_accumulation_steps > 1:
            for parameter in self.model.parameters():
                if parameter.requires_grad:
                    parameter.grad = torch.zeros_like(parameter)
        with self.compute_loss_context_manager():
            loss, count = self._supervised_loss(self.model, self._prepare_inputs(batch))
        (loss / count.clamp(min=1)).backward()

    def rehearse_evaluation(self, batch: Any) -> None:
        """Forward, as `evaluate` does it."""
        self.model.eval()
        with torch.no_grad(), self.compute_loss_context_manager():
            self._supervised_loss(self.model, self._prepare_inputs(batch))

    def save_checkpoint_now(self) -> None:
        """A checkpoint of the last whole step, in the middle of the next one, which is given up."""
        self.model.zero_grad(set_to_none=True)
        self._save_checkpoint(self.model, trial=None)
        self.control = self.callback_handler.on_save(self.args, self.state, self.control)

    def get_train_dataloader(self) -> Any:
        # A batch's size is known best before it is padded. The loader works ahead, so sizes wait for their batch.
        collate = self.data_collator
        self._sizes.clear()

        def noted(examples: Any) -> Any:
            self._sizes.append(sum(len(example["input_ids"]) for example in examples))
            return collate(examples)

        if self.accelerator.num_processes > 1:
            sampler = self._get_train_sampler(self.train_dataset)
            return self._share(WithFillers(self.train_dataset), sampler, self._train_batch_size, noted, fill=True)
        self.data_collator = noted
        try:
            return super().get_train_dataloader()
        finally:
            self.data_collator = collate

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        if self.accelerator.num_processes == 1:
            return super().get_eval_dataloader(eval_dataset)
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        in_order = SequentialSampler(dataset)
        return self._share(dataset, in_order, self.args.eval_batch_size, self.data_collator, fill=False)

    def _share(self, dataset: Any, sampler: Any, batch_size: int, collate: Any, *, fill: bool) -> Any:
        """This process's batches. accelerate would make the shares even by giving some rows to two processes."""
        here = self.accelerator
        share = Share(sampler, batch_size, here.process_index, here.num_processes, fill)
        loader = DataLoader(
            dataset, batch_sampler=share, collate_fn=collate, pin_memory=here.device.type == "cuda", num_workers=0
        )
        return prepare_data_loader(loader, here.device, num_processes=1, process_index=0, put_on_device=True)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self._lengths is None and self.accelerator.num_processes > 1:
            return ShuffledSampler(len(self.train_dataset), self.args.seed)
        if self._lengths is None:
            return super()._get_train_sampler(train_dataset)
        return LengthGroupedSampler(
            self._lengths, self._train_batch_size * self.accelerator.num_processes, self.args.seed
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        super(SFTTrainer, self).log(logs, start_time)  # without TRL's token metrics, which compute_loss here skips

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """ftcore writes the card."""


def in_optimizer(error: BaseException) -> bool:
    """Whether an error comes out of the optimizer, where some weights have made the step and others have not."""
    frame = error.__traceback__
    while frame is not None:
        code = frame.tb_frame.f_code
        if code.co_name == "step" and "optim" in code.co_filename:
            return True
        frame = frame.tb_next
    return False


class ObserverCallback(TrainerCallback):  # type: ignore[misc]
    """Passes the trainer's events to ftcore."""

    def __init__(self, observer: Observer, trainer: FtcoreSFTTrainer, resumed_from: Path | None = None) -> None:
        self._observer, self._trainer, self.resumed_from = observer, trainer, resumed_from
        self._should_stop = AgreedStop(observer.should_stop, trainer.accelerator.num_processes)
        self._stops = False
        self._tokens = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.resumed_from is not None:
            self._trainer.take_up_progress(self.resumed_from)
            state.compute_steps(args, state.max_steps)  # the checkpoint's own save_steps and log_steps are of yesterday
        self._tokens = self._trainer.tokens
        self._observer.begin(state.max_steps, state.global_step)
        due = _ends_epoch(args, state) or (args.eval_strategy == "steps" and state.global_step % args.eval_steps == 0)
        if self.resumed_from is not None and due and self._trainer.evaluated_at < state.global_step:
            self._trainer.evaluate()  # who asked for the stop did not wait for it

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._trainer.heed(self._trainer.watch.judge(state.global_step + 1))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._observer.step(state.global_step, self._trainer.tokens - self._tokens)
        self._tokens = self._trainer.tokens
        skipped = self._trainer.accelerator.optimizer_step_was_skipped
        self._trainer.heed(self._trainer.watch.stepped(state.global_step, skipped))
        if _ends_epoch(args, state) or (args.eval_strategy == "epoch" and control.should_training_stop):
            control.should_evaluate = True  # before the checkpoint, which then knows that it was done
        self._stops = self._should_stop()
        if self._stops:
            control.should_save = True
            control.should_training_stop = True
            control.should_evaluate = False  # whoever asked for a stop does not want to wait for this
        if control.should_save or control.should_evaluate or control.should_training_stop:
            self._trainer.heed(self._trainer.watch.settle())

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._stops or self._trainer.evaluated_at == state.global_step:
            control.should_evaluate = False

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        metrics = {name: float(value) for name, value in (logs or {}).items() if isinstance(value, int | float)}
        if state.is_world_process_zero and metrics and not _CLOSING & metrics.keys():
            self._observer.log(state.global_step, metrics)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._observer.checkpoint(state.global_step, Path(args.output_dir) / f"checkpoint-{state.global_step}")


def _ends_epoch(args: Any, state: Any) -> bool:
    """Whether the data have been passed over a whole number of times, and that calls for an evaluation."""
    return args.eval_strategy == "epoch" and state.global_step > 0 and float(state.epoch or 0.5).is_integer()


_CLOSING = {"train_runtime", "total_flos"}
"""Metrics of the whole run, which belong to no step; the run's summary has them."""
