"""The whole contract between ftcore and its plugins, on one page, in the order of a run.

A plugin is a module named by an entry point in the group `ftcore`. It implements any of these functions with
`@ftcore.hookimpl` and may leave out arguments that it does not need. `settings` is always the plugin's own validated
section (an instance of the model that its `ftcore_settings` returned), or None for a plugin without one.

"Selected" hooks are answered only by the plugin that the configuration chose for the stage; wrappers of every plugin
still run around it. Unless a hook says otherwise it is called once per run, in the process that trains.
"""

# A specification has no body.
# mypy: disable-error-code="empty-body"

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from ftcore.contracts import (
    BatchShape,
    Bid,
    DataRequest,
    DataView,
    Declined,
    Device,
    Formatter,
    HeldOut,
    Job,
    Loader,
    Locator,
    Policy,
    Reporter,
    Run,
    RunStatus,
    Saved,
    Stage,
    Trained,
    Trainer,
)
from ftcore.errors import Problem

if TYPE_CHECKING:
    import click
    from datasets import Dataset
    from torch import Tensor
    from torch.nn import Module

    from ftcore.config import Config
    from ftcore.settings.audit import AuditSettings
    from ftcore.settings.base import Section
    from ftcore.settings.logging import LoggingSettings
    from ftcore.settings.lora import LoraSettings
    from ftcore.settings.model import ModelSettings
    from ftcore.settings.saving import SavingSettings
    from ftcore.settings.training import TrainingSettings

PROJECT = "ftcore"
"""The pluggy project name and the entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec(firstresult=True)
def ftcore_settings() -> type[Section]:
    """The model of this plugin's own configuration section.

    Called for every plugin when a configuration is read, also by `ftcore check` and `ftcore schema`.
    The section is named like the plugin's entry point.
    """


@hookspec(firstresult=True)
def ftcore_base_config(name: str) -> Path | str:
    """The configuration behind `extends = "<plugin>:<name>"`: the path of a TOML file, or TOML itself.

    Called for the plugin named by the prefix, whenever such a configuration is read. It may extend others in turn.
    Relative paths in a file are looked up from its folder too. Raises ConfigError where there is none of that name.
    """


@hookspec(firstresult=True)
def ftcore_policy(settings: Any) -> Policy | None:
    """Defaults for everybody, and the keys that are locked; None where there is nothing to say.

    Called for every plugin whenever a configuration is read, before its values are checked, so `settings` is the
    plugin's own section as the user wrote it, without what policies give. It must need no network, and answer the same
    in every process of a run. What it gives is shown by `ftcore check` and written into the run's manifest.

    A plugin with this hook has a part in every run: its `ftcore_check` and `ftcore_preflight`, which look for what the
    organisation does not allow, are always asked, and that one of them fails stops the run.
    """


@hookspec
def ftcore_check(config: Config, settings: Any) -> Iterable[Problem]:
    """Look for problems that can be found without heavy imports: a missing package, a missing token.

    Called for every plugin after the configuration is valid, by `ftcore check` and before a run does any work.
    Errors stop the run; warnings are printed.
    """


@hookspec(firstresult=True)
def ftcore_bid(stage: Stage, config: Config, data: DataView | None) -> Bid | Declined | None:
    """Offer to serve a stage that the configuration leaves on "auto"; None stands back, Declined says why.

    Called for every plugin: for the stage "loader" before any work, with `data` None; for the stage "formatter"
    when the columns of the training data are known.
    """


@hookspec(firstresult=True)
def ftcore_name_run(config: Config, started_at: datetime, settings: Any) -> str | None:
    """The name of the run, which is also the name of its directory.

    The first plugin that does not return None decides; the built-in namer comes last. Called once, in the process
    that launches.
    """


@hookspec
def ftcore_preflight(config: Config, run_name: str, settings: Any) -> Iterable[Problem]:
    """Look for what would fail at the end of the run, and ask the network where it takes that.

    Called for every plugin that has a part in the run, when the run has a name and before its directory is made or
    gone on with; not by `ftcore check`. Errors stop the run; warnings are printed.
    """


@hookspec(firstresult=True)
def ftcore_launch(run: Run, job: Job, settings: Any) -> None:
    """Run the job: here, or in other processes or on other machines.

    Selected by `[stages] launcher`. Called once, in the process that launches; returns when the job is over.
    """


@hookspec
def ftcore_run_started(run: Run, settings: Any) -> None:
    """The run directory exists and the work begins. Called for every plugin; an error is a warning."""


@hookspec(firstresult=True)
def ftcore_resolve_model(locator: Locator, settings: Any) -> str:
    """Turn an id with this plugin's prefix into a local folder or a Hub id.

    Called for the plugin named by the prefix of `base_model_id`. Raises ModelError where there is no such model.
    """


@hookspec(firstresult=True)
def ftcore_make_loader(run: Run, source: str, model: ModelSettings, lora: LoraSettings, settings: Any) -> Loader:
    """The object that loads tokenizer and model; `source` is the resolved local folder, file or Hub id.

    Selected by `[stages] loader`.
    """


@hookspec(firstresult=True)
def ftcore_load_dataset(request: DataRequest, settings: Any) -> Dataset:
    """Load the rows of one dataset, for training or for validation.

    Called for the plugin named by the prefix of the id; without a prefix, `file` where such a path exists, else
    `hf`. Raises DataError where there are no such data.
    """


@hookspec(firstresult=True)
def ftcore_make_formatter(data: DataView, settings: Any) -> Formatter:
    """The function that turns a row into a conversation.

    Selected by `[stages] formatter`. Raises FormatMismatch where the columns are not its own.
    """


@hookspec(firstresult=True)
def ftcore_make_trainer(
    run: Run,
    training: TrainingSettings,
    logging: LoggingSettings,
    saving: SavingSettings,
    audit: AuditSettings,
    settings: Any,
) -> Trainer:
    """The object that prepares examples, fits and evaluates.

    Selected by `[stages] trainer`.
    """


@hookspec(firstresult=True)
def ftcore_trace_loss(model: Module, device: Device, settings: Any) -> Callable[[BatchShape], Tensor] | None:
    """How this plugin's trainer computes the loss of a batch, for `ftcore estimate`.

    Asked of the plugin that trains, under torch's FakeTensorMode: the model's tensors have shapes and types and no
    contents, and lie on no device, whatever `device` the estimate is for. Change the model as the trainer would, and
    return what computes a loss to call `backward` on. Without an answer, the model's own forward with logits for
    every position is what is counted.
    """


@hookspec(firstresult=True)
def ftcore_make_reporter(run: Run, settings: Any) -> Reporter:
    """The object that sends records to a tracker.

    Selected by `report_to`, once per name; called in the main process only, in the reporter's own thread.
    """


@hookspec(firstresult=True)
def ftcore_save(
    run: Run, trained: Trained, held_out: HeldOut, saving: SavingSettings, settings: Any
) -> Saved | Sequence[Saved]:
    """Save or push the trained model; must be safe to call again.

    `held_out` evaluates other weights than the trained ones, for a saver that writes such.

    Selected by `[stages] savers`, one after the other; called in the main process only. Raises SaveError.
    """


@hookspec
def ftcore_answering(model: Any, settings: Any) -> None:
    """A saved model was loaded to answer: change what it computes with, so that it answers as it was trained.

    Called for every plugin by `ftcore ask`, with the settings of the run that saved the model, or the defaults for a
    folder that is no run directory.
    """


@hookspec
def ftcore_run_finished(run: Run, status: RunStatus, settings: Any) -> None:
    """The run ended well or was interrupted. Called for every plugin; an error is a warning."""


@hookspec
def ftcore_run_failed(run: Run, error: BaseException, settings: Any) -> None:
    """The run ended with an error. Called for every plugin; an error is a warning."""


@hookspec
def ftcore_register_commands(cli: click.Group, settings: Any) -> None:
    """Add commands of your own to `ftcore`.

    Called for every plugin, only when a command is asked for that is not one of ftcore's; `settings` is None.
    """
