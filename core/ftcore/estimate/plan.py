"""From a configuration to its estimate: who loads, which model, which batch."""

from __future__ import annotations

from dataclasses import dataclass, field

from ftcore.audit.unusable import unusable
from ftcore.config import Config
from ftcore.contracts import BatchShape, Examples
from ftcore.errors import DataError
from ftcore.estimate.advice import Advice, advise
from ftcore.estimate.architecture import read_config
from ftcore.estimate.batch import longest_of, longest_possible
from ftcore.estimate.memory import Estimate, estimate
from ftcore.estimate.target import Target
from ftcore.plugins import Plugins, selection
from ftcore.run.ahead import NoRun
from ftcore.run.stages import Stages
from ftcore.settings.data import DataSettings
from ftcore.settings.model import ModelSettings


@dataclass(frozen=True)
class Plan:
    """The estimate of a configuration, and what to do about it.

    Attributes:
        estimate: the prediction.
        target: the machine.
        loader: who would load the model here.
        advice: where it does not fit.
        notes: what the prediction rests on.
    """

    estimate: Estimate
    target: Target
    loader: str
    advice: list[Advice] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def fits(self) -> bool:
        """Whether the peak is within the memory."""
        return self.estimate.peak <= self.target.memory


def plan(config: Config, plugins: Plugins, target: Target, measure_data: bool = False) -> Plan:
    """Estimate a configuration.

    Args:
        measure_data: read and tokenize the data for the longest batch, instead of assuming `max_sequence_length`.

    Raises:
        PluginError: a plugin that the configuration names cannot serve.
        ModelError: the model cannot be read, laid out or traced.
        DataError: the data cannot be read.
    """
    settings = config.fine_tuner
    loader = selection.loader_for(config, plugins).plugin
    stages = Stages(config, plugins, selection.choices(config, plugins))
    no_run = NoRun(settings.seed)
    architecture = read_config(stages.model_source(), settings.view(ModelSettings))
    batch = _measured(config, stages, no_run) if measure_data else _assumed(config)
    notes = list(no_run.warnings)
    if not measure_data:
        notes.append("every row is taken to be max_sequence_length long and all supervised; --data looks at the rows")
    if target.device == "cuda":
        notes.append("CUDA's context and the allocator's slack are taken from experience and vary with the card")
    tracer = stages.loss_tracer()
    if loader not in ("transformers", "unsloth"):
        notes.append(f"the loader {loader} is taken to work like the built-in ones")
    if tracer is None:
        notes.append(f"the trainer {config.stages.trainer} is taken to compute what the model itself does")
    predicted = estimate(architecture, settings, batch, target, loader, tracer)
    advice: list[Advice] = []
    if target.memory and predicted.peak > target.memory:
        model = settings.view(ModelSettings)
        read = lambda name: read_config(name, model)  # noqa: E731
        advice = list(advise(architecture, read, settings, batch, target, loader, tracer))
    return Plan(predicted, target, loader, advice, notes)


def _assumed(config: Config) -> BatchShape:
    settings = config.fine_tuner
    assumed = longest_possible(settings.device_train_batch_size, settings.max_sequence_length)
    return BatchShape(assumed.rows, assumed.length, assumed.supervised, padded=assumed.padded or settings.packing)


def _measured(config: Config, stages: Stages, no_run: NoRun) -> BatchShape:
    settings = config.fine_tuner
    tokenizer = stages.loader(no_run).tokenizer()
    train, _ = stages.datasets(no_run)
    prepared = stages.trainer(no_run).prepare(
        Examples(
            train=train,
            validation=None,
            formatter=stages.formatter(no_run, train),
            tokenizer=tokenizer,
            settings=settings.view(DataSettings),
            max_length=settings.max_sequence_length,
        )
    )
    for one in unusable(prepared.bad_rows, config.audit):
        if one.severity == "error":
            raise one.error
        no_run.warn(str(one))
    if not len(prepared.train):
        raise DataError("the training data have no usable rows", fix="Check the file and its columns")
    return longest_of(prepared.train, settings.device_train_batch_size)
