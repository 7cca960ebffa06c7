"""The types that cross a plugin boundary.

Heavy objects (models, tokenizers, datasets) are named here only for type checkers, so that importing this module
costs nothing and a plugin can be tested without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, runtime_checkable

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedTokenizerBase

    from ftcore.settings.data import DataSettings

Stage = Literal["launcher", "loader", "formatter", "trainer", "saver", "reporter", "data", "model", "namer"]
"""The replaceable parts of a run."""

RunStatus = Literal["finished", "failed", "interrupted"]
"""How a run ended."""

IGNORED = -100
"""The label of a token that is not trained on (PyTorch's cross entropy ignores it by default)."""


class Message(TypedDict):
    """One turn of a conversation, in the shape that chat templates read. A `Conversation` is a list of them, in order.

    Attributes:
        role: who speaks. What is learned are the turns of the assistant; not every chat template knows the others.
        content: the text.
    """

    role: Literal["system", "user", "assistant", "tool"]
    content: str


Conversation = list[Message]
"""The turns of one training example, in order."""


@dataclass(frozen=True)
class Bid:
    """An offer to serve a stage that the configuration leaves on "auto".

    Attributes:
        rank: the highest rank wins; two equal highest ranks are an error. Built-in plugins use 10 to 30.
        reason: why this plugin suits, shown to the user.
    """

    rank: int
    reason: str


@dataclass(frozen=True)
class Declined:
    """A plugin could serve a stage that the configuration leaves on "auto", but not here, and says why.

    Attributes:
        reason: what is in the way, shown by `ftcore plugins why` and `ftcore doctor`.
    """

    reason: str


@dataclass(frozen=True)
class Policy:
    """What an organisation gives to every configuration, and what nobody may change.

    A value that the user's file, a file that it extends, or `--set` gives wins over the policy's, unless it is locked.

    Attributes:
        values: by section and key, as a configuration file would have them: `{"mlflow": {"tracking_uri": "https://…"}}`.
            Texts may have `${NAME}` in them, and None is "null". Tables are merged key by key, lists replaced.
            Sections of plugins that are not installed are left out.
        locked: the keys that have the policy's value and no other, as `section.key`, each with the reason, which the user
            is told. Each has a value above.
        reason: why the other values are what they are, for `ftcore check`; may be empty.

    Raises:
        ValueError: a locked key has no value.
    """

    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    locked: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""

    def __post_init__(self) -> None:
        for where in self.locked:
            inner: Any = self.values
            for part in where.split("."):
                if not isinstance(inner, Mapping) or part not in inner:
                    raise ValueError(f"{where} is locked and has no value in the policy")
                inner = inner[part]
            if "." not in where:
                raise ValueError(f"{where} is locked, and a policy locks keys, not whole sections")


@dataclass(frozen=True)
class Locator:
    """An id of a dataset or a model: `[prefix:]path[?option=value&...]`.

    Attributes:
        text: the id as it was configured, for messages.
        path: the id without its prefix and options.
        options: what stands behind the question mark, e.g. `{"split": "train", "name": "main"}`.
    """

    text: str
    path: str
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DataRequest:
    """What a data source is asked for.

    Attributes:
        locator: which dataset.
        purpose: the default choice of a split depends on it.
        num_proc: how many processes may be used, at least 1.
        seed: for sources that sample.
        base_dir: the folder of the configuration file; relative paths that do not exist from the working directory
            are looked up from here.
    """

    locator: Locator
    purpose: Literal["training", "validation"]
    num_proc: int
    seed: int
    base_dir: Path


@dataclass(frozen=True)
class DataView:
    """What a formatter may know before it reads rows.

    Attributes:
        columns: the column names of the training data.
        settings: the data keys of `[fine_tuner]`.
        sample: the first rows (at most 8), for plugins that look at shapes rather than names.
    """

    columns: Sequence[str]
    settings: DataSettings
    sample: Sequence[Mapping[str, Any]] = ()


@runtime_checkable
class Formatter(Protocol):
    """Turns one row into a conversation. Pure, deterministic and picklable: it runs in worker processes.

    Raises:
        ValueError: this row cannot be formatted (an empty or null cell, a wrong type); the message says why. The
            row is counted and skipped or fatal as `[audit]` says.
    """

    def __call__(self, row: Mapping[str, Any]) -> Conversation: ...


@dataclass(frozen=True)
class Examples:
    """What a trainer turns into tokens and labels.

    Attributes:
        train: the training rows (a `datasets.Dataset`).
        validation: the validation rows, if any.
        formatter: row to conversation.
        tokenizer: the tokenizer, its chat template set.
        settings: the data keys of `[fine_tuner]`.
        max_length: the longest sequence in tokens.
        samples: how many of the first validation conversations to return with the prepared data.
    """

    train: Dataset
    validation: Dataset | None
    formatter: Formatter
    tokenizer: PreTrainedTokenizerBase
    settings: DataSettings
    max_length: int
    samples: int = 0


@dataclass(frozen=True)
class Prepared:
    """Tokens and labels, ready to train on.

    Attributes:
        train: a `datasets.Dataset` with `input_ids` and `labels`, both lists of int of equal length; a label of
            `IGNORED` is not trained on. Three more columns of int are read where they are there: `row`, the row's number
            in the data that it was made from; `lost`, how many tokens were cut off; and `lost_supervised`, how many
            of those would have been trained on.
        validation: the same for validation, if any.
        sample: conversations of the first validation rows, for answers before and after training.
        facts: counts for the manifest, the model card and the reporters (rows, tokens, supervised tokens, …).
        examples: where `train` holds packed sequences, the training examples one by one, as `train` else does.
        order: gives the order in which the rows of `train` fill the first epoch's batches; None where it is any.
    """

    train: Dataset
    validation: Dataset | None
    sample: Sequence[Conversation] = ()
    facts: Mapping[str, int | float | str] = field(default_factory=dict)
    examples: Dataset | None = None
    order: Callable[[], Sequence[int]] | None = None


@dataclass(frozen=True)
class BatchShape:
    """The size of a batch of one forward pass.

    Attributes:
        rows: sequences.
        length: tokens of each, padding included.
        supervised: positions whose logits are computed.
        padded: its sequences differ in length (or are packed), so that attention needs a mask.
    """

    rows: int
    length: int
    supervised: int
    padded: bool


Device = Literal["cpu", "cuda"]
"""A kind of device to train on."""

LossTracer = Callable[["Module", Device], "Callable[[BatchShape], Tensor] | None"]
"""Makes a model without contents compute as a trainer would on that kind of device, and returns what computes a batch's
loss; None leaves both to the model itself (see the hook `ftcore_trace_loss`)."""


@dataclass(frozen=True)
class FitResult:
    """What training came to.

    Attributes:
        steps: optimizer steps taken in all.
        epochs: passes over the data, fractional.
        metrics: the trainer's closing metrics, e.g. `train_loss`.
        status: "interrupted" where training stopped early on request.
    """

    steps: int
    epochs: float
    metrics: Mapping[str, float]
    status: Literal["finished", "interrupted"] = "finished"


class Observer(Protocol):
    """What a trainer tells the run while it fits."""

    def begin(self, total_steps: int, from_step: int) -> None:
        """Fitting starts at `from_step` (0 unless resumed) and will take `total_steps` in all."""

    def step(self, step: int, tokens: int) -> None:
        """An optimizer step ended; `tokens` went through the model in it, padding not counted."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics at a step; names are the ones of transformers' Trainer (`loss`, `eval_loss`, …)."""

    def checkpoint(self, step: int, folder: Path) -> None:
        """A complete checkpoint of `step` lies in `folder`."""

    def should_stop(self) -> bool:
        """Whether the user asked for a stop after this step."""


class Run(Protocol):
    """The running job, as plugins see it."""

    @property
    def name(self) -> str: ...
    @property
    def dir(self) -> Path:
        """The run directory, `<output_dir>/<name>`."""

    @property
    def started_at(self) -> datetime: ...
    @property
    def seed(self) -> int: ...
    @property
    def resumed(self) -> bool: ...
    @property
    def settings(self) -> Mapping[str, Any]:
        """The effective configuration, flat (`section.key`), secrets masked: for parameters in trackers."""

    def say(self, text: str) -> None:
        """Tell the user something worth a line, on the console and in the run's log."""

    def warn(self, text: str) -> None:
        """Warn the user, on the console and in the run's log."""

    def imported_by(self, module: str) -> str | None:
        """The plugin during whose import or hook a module was first imported; None if it was elsewhere."""


class Loader(Protocol):
    """Loads the tokenizer first, which is cheap, then the model."""

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer with a chat template and a pad token that is not an EOS token where there is a choice.

        Raises:
            ModelError: it cannot be loaded, or has no chat template.
        """

    def model(self) -> Module:
        """The model with its adapter, in training mode, on its device.

        Raises:
            ModelError: it cannot be loaded as configured.
        """


class Trainer(Protocol):
    """Prepares examples, fits and evaluates. Called in the order of its methods."""

    def prepare(self, examples: Examples) -> Prepared:
        """Tokens and labels, before the model is loaded.

        Raises:
            DataError: nothing would be learned from the data, or too many rows are bad.
        """

    def attach(self, model: Module, prepared: Prepared, observer: Observer) -> None:
        """Get ready to fit this model on these data."""

    def evaluate(self) -> Mapping[str, float]:
        """Metrics on the validation data, `eval_loss` among them; empty without validation data."""

    def fit(self, resume_from: Path | None) -> FitResult:
        """Train, from a checkpoint folder if one is given: to the same result as if it had not stopped there.

        Checkpoints are written with `ftcore.checkpoints.writing` to `<run>/checkpoints/checkpoint-<step>`, the last one
        after the last step or after a stop; only those are given back. Given the one of the last step, the model
        is brought to where it says, and nothing is trained.

        Raises:
            TrainingError: training could not go on.
        """

    def generate(self, conversations: Sequence[Conversation], max_new_tokens: int) -> list[str]:
        """The model's answers, greedy, to conversations that end with a user's turn."""


@dataclass(frozen=True)
class Rehearsed:
    """The batch that a trainer rehearsed.

    Attributes:
        rows: sequences in it.
        tokens: of all its sequences, padding included.
    """

    rows: int
    tokens: int


class Rehearsing(Protocol):
    """What a trainer may have besides the methods of `Trainer`."""

    def rehearse(self, part: Literal["training", "evaluation"]) -> Rehearsed | None:
        """Compute the largest batch that training (forward and backward) or evaluation (forward) will meet.

        Called once for each part behind `attach` and before anything else, where `[run] dry_step` is true; the
        caller measures the memory. Nothing may be different afterwards: no weight, no gradient, no random state, so
        that training goes the same way with and without it. Returns None where there is no such batch.
        """


@dataclass(frozen=True)
class RunRecord:
    """What a reporter learns about a run when it starts.

    Attributes:
        name: the run's name.
        dir: the run directory.
        params: the effective configuration, flat, secrets masked.
        tags: short facts: ftcore's version, the base model, the stages' plugins, the device.
        external_id: what this reporter's `start` returned when the run was first started; None at first.
    """

    name: str
    dir: Path
    params: Mapping[str, Any]
    tags: Mapping[str, str]
    external_id: str | None = None


@dataclass(frozen=True)
class Logged:
    """Metrics of one step.

    Attributes:
        metrics: by name.
        step: the optimizer step.
        time: when they were logged, in seconds since the epoch.
    """

    metrics: Mapping[str, float]
    step: int
    time: float


class Batching(Protocol):
    """What a reporter may have besides the methods of `Reporter`."""

    def log_many(self, records: Sequence[Logged]) -> None:
        """As `log` for each of the records, at most 100, at once; called instead of it where there is more than one.

        Where it raises RecordRefused, they are offered again one by one.
        """


@runtime_checkable
class Reporter(Protocol):
    """Sends a run's records to a tracker. All methods are called from one thread of its own, in order.

    Whatever a method raises is caught and training goes on. `ftcore.errors.RecordRefused` means that this record will
    never be taken: the user is warned and the next one follows. After anything else the record is kept and offered
    again, so a method must be safe to call again with the same record.
    """

    def start(self, record: RunRecord) -> str | None:
        """Open the tracker's run; returns the tracker's own id of it, or None. The id is kept on disk, secrets masked."""

    def log(self, metrics: Mapping[str, float], step: int, time: float) -> None:
        """Metrics of a step; `time` in seconds since the epoch."""

    def artifact(self, path: Path, name: str) -> None:
        """A file or folder of the run directory worth keeping, under `name`."""

    def finish(self, status: RunStatus, time: float) -> None:
        """The run was over at `time`, in seconds since the epoch; send what is buffered."""


class Trained(Protocol):
    """The trained model, as savers see it."""

    @property
    def kind(self) -> Literal["adapter", "full"]: ...
    @property
    def base_model_id(self) -> str: ...
    @property
    def metrics(self) -> Mapping[str, float]: ...
    @property
    def model(self) -> Any: ...
    @property
    def tokenizer(self) -> Any: ...
    def export(self, folder: Path) -> Path:
        """Write the model (or adapter), the tokenizer with its chat template and the model card into `folder`.

        The folder appears complete or not at all; one that is already there is replaced.
        """


class HeldOut(Protocol):
    """The run's held-out rows, for savers that write other weights than those that were trained."""

    @property
    def rows(self) -> str:
        """Where they come from: the id of the validation data; empty where there are none."""

    def source(self) -> str:
        """The folder, file or Hub id that `base_model_id` stands for.

        Raises:
            ModelError: there is no such model.
        """

    def loss(self, folder: Path, *, adapter: Path | None = None, dtype: str | None = None) -> float:
        """The mean loss per supervised token of the model in a folder, in nats, on the held-out rows.

        It is loaded, unquantized, by the run's loader, and evaluated by its trainer, with the run's settings and with
        the tokenizer in `<run>/model`.

        Args:
            folder: a whole model.
            adapter: the folder of the run's adapter, to be used with it.
            dtype: of the weights ("bfloat16", "float16", "float32"); None leaves it to the run's settings.

        Raises:
            FtcoreError: there are no rows, or the model cannot be loaded or evaluated here.
        """


@dataclass(frozen=True)
class Saved:
    """What a saver wrote.

    Attributes:
        what: e.g. "adapter".
        where: a path or a URL.
    """

    what: str
    where: str


class Job(Protocol):
    """What a launcher launches."""

    @property
    def command(self) -> Sequence[str]:
        """The command line that runs the job in another process, in the run directory that is there already.

        A launcher puts around it what it needs (`torchrun …`, `srun …`). In a distributed job each process has its
        number in the variable RANK; number 0 reports and saves. The exit status is that of `ftcore run`.
        """

    def run_here(self) -> None:
        """Run the job in this process."""
