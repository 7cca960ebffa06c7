"""Asking the chosen plugins for their part of a run, and naming them when they fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from ftcore import locators, templates
from ftcore.config import Config
from ftcore.contracts import (
    DataRequest,
    DataView,
    Device,
    FitResult,
    Formatter,
    Job,
    Loader,
    LossTracer,
    Prepared,
    Reporter,
    Run,
    Saved,
    Stage,
    Trained,
    Trainer,
)
from ftcore.errors import ConfigError, DataError, FtcoreError, OutOfMemory, PluginError
from ftcore.plugins import PluginRecord, Plugins, breach, selection
from ftcore.plugins.importers import on_behalf_of
from ftcore.plugins.selection import Choice
from ftcore.run import memory, runs
from ftcore.run.held_out import HeldOutRows
from ftcore.settings.data import DataSettings
from ftcore.settings.logging import LoggingSettings
from ftcore.settings.lora import LoraSettings
from ftcore.settings.model import ModelSettings
from ftcore.settings.saving import SavingSettings
from ftcore.settings.training import TrainingSettings

_SAMPLE_ROWS = 8


class Stages:
    """The chosen plugins of one configuration."""

    def __init__(self, config: Config, plugins: Plugins, selected: Sequence[Choice]) -> None:
        self._config, self._plugins = config, plugins
        self.selected = list(selected)
        self._source: str | None = None

    def names(self, stage: Stage) -> list[str]:
        """The plugins chosen for a stage."""
        return [choice.plugin for choice in self.selected if choice.stage == stage and choice.plugin]

    def breach(self, stage: Stage, why: str) -> PluginError:
        """The error for the plugin chosen for a stage, where that does not keep to its contract."""
        (name,) = self.names(stage)
        return self._plugins.breach(name, why)

    def run_name(self, started_at: datetime) -> str:
        """The run's name, safe as a folder and as a Hub repository.

        Raises:
            ConfigError: the name is unsafe.
            PluginError: nobody named the run, or a namer failed.
        """
        for name in self._plugins.implementing("ftcore_name_run"):
            answer = self._plugins.call(
                "ftcore_name_run", name, config=self._config, started_at=started_at, settings=self._section(name)
            )
            if answer is None:
                continue
            if not isinstance(answer, str):
                raise PluginError(f"{self._plugins.get(name)} broke its contract", why="a run's name must be a text")
            return runs.validate_name(answer, f"named by the plugin '{name}'")
        raise ConfigError("no plugin named the run", fix="Set [run] name")

    def launch(self, run: Run, job: Job) -> None:
        """Let the chosen launcher run the job."""
        (name,) = self.names("launcher")
        self._plugins.call("ftcore_launch", name, run=run, job=job, settings=self._section(name))

    def loader(self, run: Run) -> Loader:
        """The chosen loader, for the resolved model."""
        settings = self._config.fine_tuner
        return self.loader_of(run, self.model_source(), settings.view(ModelSettings), settings.view(LoraSettings))

    def loader_of(self, run: Run, source: str, model: ModelSettings, lora: LoraSettings) -> Loader:
        """The chosen loader, for another model."""
        (name,) = self.names("loader")
        if model.chat_template is not None:
            template = templates.located(model.chat_template, self._config.folder("fine_tuner.chat_template"))
            model = model.model_copy(update={"chat_template": template})
        return self._make(  # type: ignore[no-any-return]
            Loader, "ftcore_make_loader", name, run=run, source=source, model=model, lora=lora
        )

    def model_source(self) -> str:
        """The folder, file or Hub id of the model; a plugin resolves an id with its prefix, once."""
        if self._source is None:
            self._source = self._resolved(self._config.fine_tuner.base_model_id)
        return self._source

    def _resolved(self, source: str) -> str:
        for plugin in self.names("model"):
            source = self._plugins.expect(
                str,
                "ftcore_resolve_model",
                plugin,
                locator=locators.parse(source),
                settings=self._section(plugin),
            )
        return source

    def datasets(self, run: Run) -> tuple[Any, Any]:
        """The training rows, and the validation rows or None."""
        settings = self._config.fine_tuner
        train = self._dataset(run, settings.training_data_id, "training")
        return train, self.validation_rows(run)

    def validation_rows(self, run: Run) -> Any:
        """The validation rows alone, or None."""
        locator = self._config.fine_tuner.validation_data_id
        return None if locator is None else self._dataset(run, locator, "validation")

    def _dataset(self, run: Run, locator: str, purpose: Any) -> Any:
        folder = self._config.folder(f"fine_tuner.{purpose}_data_id")
        name, _ = selection.data_plugin(locator, folder)
        request = DataRequest(
            locator=locators.parse(locator),
            purpose=purpose,
            num_proc=self._config.fine_tuner.dataset_num_proc,
            seed=run.seed,
            base_dir=folder,
        )
        rows = self._plugins.call("ftcore_load_dataset", name, request=request, settings=self._section(name))
        if not hasattr(rows, "column_names") or not hasattr(rows, "__len__"):
            raise PluginError(
                f"{self._plugins.get(name)} broke its contract",
                why=f"ftcore_load_dataset must return a datasets.Dataset and returned a {type(rows).__name__}",
            )
        if not len(rows):
            raise DataError(f'the {purpose} data "{locator}" have no rows', fix="Check the file")
        return rows

    def formatter(self, run: Run, train: Any) -> Formatter:
        """The formatter that was chosen, or that suits the columns best."""
        view = DataView(
            columns=list(train.column_names),
            settings=self._config.fine_tuner.view(DataSettings),
            sample=[train[index] for index in range(min(_SAMPLE_ROWS, len(train)))],
        )
        choice = selection.formatter_for(self._config, self._plugins, view)
        run.say(f"formatter  {choice.plugin} ({choice.why})")
        # Not wrapped: a formatter travels to worker processes as it is.
        return self._plugins.expect(  # type: ignore[no-any-return]
            Formatter, "ftcore_make_formatter", choice.plugin, data=view, settings=self._section(choice.plugin)
        )

    def trainer(self, run: Run) -> Trainer:
        """The chosen trainer."""
        (name,) = self.names("trainer")
        settings = self._config.fine_tuner
        return self._make(  # type: ignore[no-any-return]
            Trainer,
            "ftcore_make_trainer",
            name,
            run=run,
            training=settings.view(TrainingSettings),
            logging=settings.view(LoggingSettings),
            saving=settings.view(SavingSettings),
            audit=self._config.audit,
        )

    def loss_tracer(self) -> LossTracer | None:
        """How the chosen trainer's loss is traced; None where its plugin does not say."""
        (name,) = self.names("trainer")
        if name not in self._plugins.implementing("ftcore_trace_loss"):
            return None

        def tracer(model: Any, device: Device) -> Any:
            return self._plugins.call(
                "ftcore_trace_loss", name, model=model, device=device, settings=self._section(name)
            )

        return tracer

    def reporters(self, run: Run, names: Sequence[str] | None = None) -> Mapping[str, Callable[[], Reporter]]:
        """What makes each chosen reporter, or each of `names`, to be called in its own thread."""
        return {
            name: partial(
                self._plugins.expect, Reporter, "ftcore_make_reporter", name, run=run, settings=self._section(name)
            )
            for name in (self.names("reporter") if names is None else names)
        }

    def save(self, name: str, run: Run, trained: Trained) -> list[Saved]:
        """Let one saver save; what it wrote."""
        answer = self._plugins.call(
            "ftcore_save",
            name,
            run=run,
            trained=trained,
            held_out=HeldOutRows(self._config, self, run),
            saving=self._config.fine_tuner.view(SavingSettings),
            settings=self._section(name),
        )
        saved = [answer] if isinstance(answer, Saved) else list(answer) if isinstance(answer, Iterable) else []
        if not saved or not all(isinstance(item, Saved) for item in saved):
            got = _kind(answer) if answer else repr(answer)
            why = f"ftcore_save must say what it saved and where, as Saved or a list of them, and returned {got}"
            raise self._plugins.breach(name, why)
        return saved

    def everyone(self, hook: str, *, run: Run, **arguments: Any) -> None:
        """Tell every plugin that listens; one that fails is a warning and does not keep the others from hearing."""
        for name in self._plugins.implementing(hook):
            if name in self._config.incomplete:
                continue  # installed and not configured: there are no settings to call it with
            try:
                self._plugins.call(hook, name, run=run, **arguments, settings=self._section(name))
            except Exception as error:
                run.warn(str(error))

    def _make(self, kind: Any, hook: str, name: str, **arguments: Any) -> Any:
        made = self._plugins.expect(kind, hook, name, **arguments, settings=self._section(name))
        record = self._plugins.get(name)
        assert record is not None
        return Blamed(made, record)

    def _section(self, name: str) -> Any:
        return self._config.section(name)


_DOING = {
    "model": "loading the model",
    "prepare": "preparing the data",
    "attach": "preparing the training",
    "evaluate": "the evaluation",
    "fit": "training",
    "generate": "generating answers",
}
"""What a method does, for people."""

_ANSWERS: Mapping[str, type] = {"prepare": Prepared, "evaluate": Mapping, "fit": FitResult, "generate": Sequence}
"""What a trainer's methods return."""


class Blamed:
    """Passes everything on to a plugin's object; what its methods raise unexpectedly names the plugin."""

    def __init__(self, inner: object, record: PluginRecord) -> None:
        self._inner, self._blamed = inner, record

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                with on_behalf_of(self._blamed.name):
                    return self._checked(name, value(*args, **kwargs))
            except FtcoreError:
                raise
            except Exception as error:
                if memory.ran_out(error):
                    raise OutOfMemory(f"memory ran out in {_DOING.get(name, name)}") from error
                raise PluginError(
                    f"{self._blamed} failed in {name}",
                    why=f"{type(error).__name__}: {error}",
                    fix="The run's log has the traceback",
                ) from error

        return call

    def _checked(self, name: str, answer: Any) -> Any:
        """The answer of a method. Raises PluginError where it is of another kind than the contract says."""
        wanted = _ANSWERS.get(name)
        if wanted is not None and not isinstance(answer, wanted):
            why = f"{name} must return a {wanted.__name__} and returned {_kind(answer)}"
        elif name in ("tokenizer", "model") and answer is None:
            why = f"{name} must return the {name} and returned None"
        elif isinstance(answer, Prepared) and not hasattr(answer.train, "column_names"):
            why = f"prepare must return a datasets.Dataset as train and returned {_kind(answer.train)}"
        else:
            return answer
        raise breach(self._blamed, why)


def _kind(answer: object) -> str:
    return "None" if answer is None else f"a {type(answer).__name__}"
