"""Who serves each stage of a run, and why."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ftcore import locators
from ftcore.config import Config
from ftcore.contracts import Bid, DataView, Declined, Stage
from ftcore.errors import ConfigError, FormatMismatch, FtcoreError, InvalidConfig, PluginError
from ftcore.plugins import DISABLE_VARIABLE, Plugins
from ftcore.text import short

FILES, HUB = "file", "hf"
"""The plugins behind dataset ids without a prefix: for a path that exists, and for every other id."""


@dataclass(frozen=True)
class Choice:
    """A plugin chosen for a stage.

    Attributes:
        stage: which part of the run it serves.
        plugin: its name; "" where the stage is not needed, or is chosen only when the data are known.
        why: the reason, for `ftcore plugins why`.
    """

    stage: Stage
    plugin: str
    why: str


def choices(config: Config, plugins: Plugins, without: Collection[str] | None = None) -> list[Choice]:
    """All choices that can be made without reading data, in the order of a run.

    Args:
        without: of a configuration that cannot be used, the keys that are wrong: what depends on them is not chosen, nor
            what plugins would offer, since they would read such a configuration.

    Raises:
        PluginError: a plugin that the configuration names cannot serve its stage.
        ConfigError: the id of a model or of data cannot be read.
        InvalidConfig: several of these, one line each.
    """
    found: list[Choice] = []
    errors: list[FtcoreError] = []
    for make, keys in _MAKERS.items():
        if without is not None and (keys & set(without) or (make is _loader and config.stages.loader == "auto")):
            continue
        try:
            found += make(config, plugins)
        except FtcoreError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise InvalidConfig(
            list(dict.fromkeys(str(error) for error in errors)), exit_code=min(error.exit_code for error in errors)
        )
    return found


def formatter_for(config: Config, plugins: Plugins, data: DataView) -> Choice:
    """The formatter, once the columns are known.

    Raises:
        FormatMismatch: "auto", and no formatter reads these columns.
        PluginError: "auto", and two offer equally.
    """
    name = config.stages.formatter
    if name != "auto":
        return next(_formatter(config, plugins))
    bids, declined = _bids("formatter", config, plugins, data)
    if not bids:
        _require_columns(config, data)
        raise FormatMismatch(
            f"no formatter reads the columns {', '.join(data.columns)}",
            why=f"installed formatters: {', '.join(plugins.serving('formatter'))}",
            fix="Name the columns with question_column and ground_truth_column, or choose with [stages] formatter",
        )
    return _best("formatter", bids, declined)


def loader_for(config: Config, plugins: Plugins) -> Choice:
    """The loader, without asking for the other stages.

    Raises:
        PluginError: the plugin that the configuration names cannot serve, or with "auto" nobody or two offer.
    """
    return next(_loader(config, plugins))


def _require_columns(config: Config, data: DataView) -> None:
    """A column that the configuration names and the data do not have explains why nobody reads them."""
    for key in ("question_column", "ground_truth_column", "system_prompt_column"):
        name = getattr(data.settings, key)
        if name is not None and name not in data.columns:
            close = get_close_matches(name, data.columns, n=1)
            raise FormatMismatch(
                f'{config.locate(f"fine_tuner.{key}")}: {key} = "{short(name)}" is no column of the training data',
                why=f"its columns are {', '.join(data.columns)}",
                fix=f'Did you mean "{close[0]}"?' if close else "Name one of these",
            )


def saver_names(config: Config) -> list[str]:
    """The savers in force, in order."""
    if config.stages.savers is not None:
        return list(config.stages.savers)
    return ["local", "hub"] if config.fine_tuner.push_to_hub else ["local"]


def data_plugin(locator: str, base_dir: Path) -> tuple[str, str]:
    """The plugin that loads a dataset id, and why."""
    prefix, _ = locators.split_prefix(locator)
    if prefix:
        return prefix, f'the prefix of "{locator}"'
    path = locators.parse(locator).path
    if _exists(path, base_dir):
        return FILES, f'"{locator}" is a path that exists'
    if _looks_like_file(locator):
        return FILES, f'"{locator}" is written like a path'
    return HUB, f'"{locator}" is no path here, so it is an id of the Hugging Face Hub'


def _exists(path: str, base_dir: Path) -> bool:
    try:
        whole = Path(path).expanduser()
        return whole.exists() or (base_dir / whole).exists()
    except (OSError, RuntimeError):  # too long a name, a folder that may not be read, no such user's home
        return False


def _looks_like_file(locator: str) -> bool:
    # A Hub id is `name` or `user/name`; anything else, or a data file's ending, was meant as a path, and the error
    # for a missing file helps more than the Hub's.
    path = locators.parse(locator).path
    endings = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".arrow", ".gz", ".txt")
    return path.startswith(("/", "./", "../", "~")) or path.count("/") > 1 or path.lower().endswith(endings)


def _namer(config: Config, plugins: Plugins) -> Iterator[Choice]:
    names = plugins.implementing("ftcore_name_run")
    if not names:
        why = "the plugin 'naming' is disabled"
        raise PluginError("no plugin names the run", why=why, fix=f"Take naming out of {DISABLE_VARIABLE}")
    yield Choice("namer", names[0], "asked first" if len(names) > 1 else "the only one installed")


def _launcher(config: Config, plugins: Plugins) -> Iterator[Choice]:
    yield _named(config, plugins, "launcher", config.stages.launcher)


def _trainer(config: Config, plugins: Plugins) -> Iterator[Choice]:
    yield _named(config, plugins, "trainer", config.stages.trainer)


def _loader(config: Config, plugins: Plugins) -> Iterator[Choice]:
    if config.stages.loader == "auto":
        bids, declined = _bids("loader", config, plugins, None)
        if not bids:
            out = _out_of_use(plugins)
            raise PluginError(
                "no plugin offers to load the model",
                why="; ".join(["[stages] loader is auto", *declined, *out]),
                fix="Mend one of these, install a loader, or name one there"
                if out
                else "Install a loader, or name one there",
            )
        yield _best("loader", bids, declined)
    else:
        yield _named(config, plugins, "loader", config.stages.loader)


def _out_of_use(plugins: Plugins) -> list[str]:
    """Who might serve a stage and cannot: broken plugins, each with its reason, and disabled ones."""
    out = [f"broken is {record}: {record.reason}" for record in plugins.records if record.state == "broken"]
    disabled = [record.name for record in plugins.records if record.state == "disabled"]
    return [*out, f"disabled by {DISABLE_VARIABLE}: {', '.join(disabled)}"] if disabled else out


def _formatter(config: Config, plugins: Plugins) -> Iterator[Choice]:
    if config.stages.formatter == "auto":
        offered = ", ".join(plugins.serving("formatter"))
        if not offered:
            why = "; ".join(["[stages] formatter is auto, and nobody serves that stage", *_out_of_use(plugins)])
            raise PluginError("no plugin can format the data", why=why, fix="Mend one of these, or install a formatter")
        yield Choice("formatter", "", f"[stages] formatter is auto: chosen by the columns, among {offered}")
    else:
        yield _named(config, plugins, "formatter", config.stages.formatter)


def _model(config: Config, plugins: Plugins) -> Iterator[Choice]:
    model_id = config.fine_tuner.base_model_id
    prefix, _ = locators.split_prefix(model_id)
    if prefix:
        _parse(config, "base_model_id")
        plugins.require("model", prefix, config.locate("fine_tuner.base_model_id") + ": base_model_id's prefix")
        yield Choice("model", prefix, f'the prefix of "{model_id}"')
    else:
        yield Choice("model", "", "base_model_id has no prefix: the loader reads the folder, file or Hub id itself")


def _data(config: Config, plugins: Plugins) -> Iterator[Choice]:
    for key in ("training_data_id", "validation_data_id"):
        locator = getattr(config.fine_tuner, key)
        if locator is not None:
            _parse(config, key)
            name, why = data_plugin(locator, config.folder(f"fine_tuner.{key}"))
            plugins.require("data", name, f"{config.locate(f'fine_tuner.{key}')}: {key}'s data source")
            yield Choice("data", name, f"{key}: {why}")


def _parse(config: Config, key: str) -> None:
    try:
        locators.parse(getattr(config.fine_tuner, key))
    except ConfigError as error:
        place = config.locate(f"fine_tuner.{key}")
        raise ConfigError(f"{place}: {key}: {error.what}", why=error.why, fix=error.fix) from None


def _reporters(config: Config, plugins: Plugins) -> Iterator[Choice]:
    for name in config.fine_tuner.reporters():
        where = config.locate("fine_tuner.report_to")
        plugins.require("reporter", name, f"{where}: report_to")
        yield Choice("reporter", name, _named_in(config, "fine_tuner.report_to", "report_to"))


def _savers(config: Config, plugins: Plugins) -> Iterator[Choice]:
    for name in saver_names(config):
        plugins.require("saver", name, config.locate("stages.savers") + ": [stages] savers")
        given = config.stages.savers is not None
        default = "push_to_hub is true" if name == "hub" else "the default"
        yield Choice("saver", name, _named_in(config, "stages.savers", "[stages] savers") if given else default)


def _named(config: Config, plugins: Plugins, stage: Stage, name: str) -> Choice:
    plugins.require(stage, name, f"{config.locate(f'stages.{stage}')}: [stages] {stage}")
    key = f"stages.{stage}"
    given = config.was_given("stages", stage) or key in config.source.policies
    return Choice(stage, name, _named_in(config, key, f"[stages] {stage}") if given else "the default")


def _named_in(config: Config, where: str, key: str) -> str:
    by = f" by {config.locate(where)}" if where in config.source.policies else ""
    return f"named in {key}{by}"


def _bids(
    stage: Stage, config: Config, plugins: Plugins, data: DataView | None
) -> tuple[list[tuple[Bid, str]], list[str]]:
    """The offers, best first, and who stands back for what reason."""
    bids: list[tuple[Bid, str]] = []
    declined: list[str] = []
    for name in plugins.implementing("ftcore_bid"):
        answer: Any = plugins.call("ftcore_bid", name, stage=stage, config=config, data=data)
        if isinstance(answer, Bid) and name in plugins.serving(stage):
            bids.append((answer, name))
        elif isinstance(answer, Declined) and name in plugins.serving(stage):
            declined.append(f"{name} stands back: {answer.reason}")
        elif answer is not None:
            got = type(answer).__name__
            raise plugins.breach(name, f"ftcore_bid must return a Bid, Declined or None and returned a {got}")
    return sorted(bids, key=lambda offer: offer[0].rank, reverse=True), declined


def _best(stage: Stage, bids: list[tuple[Bid, str]], declined: list[str]) -> Choice:
    (best, name), *rest = bids
    equals = [other for bid, other in rest if bid.rank == best.rank]
    if equals:
        raise PluginError(
            f"[stages] {stage} is auto, and {' and '.join([name, *equals])} offer to serve it equally",
            fix=f'Choose one: [stages] {stage} = "{name}"',
        )
    return Choice(stage, name, "; ".join([f"auto: {best.reason}", *declined]))


_MAKERS = {
    _namer: frozenset[str](),
    _launcher: frozenset({"stages.launcher"}),
    _model: frozenset({"fine_tuner.base_model_id"}),
    _loader: frozenset({"stages.loader"}),
    _data: frozenset({"fine_tuner.training_data_id", "fine_tuner.validation_data_id"}),
    _formatter: frozenset({"stages.formatter"}),
    _trainer: frozenset({"stages.trainer"}),
    _reporters: frozenset({"fine_tuner.report_to"}),
    _savers: frozenset({"stages.savers", "fine_tuner.push_to_hub"}),
}
"""What makes the choices, in the order of a run, and the keys that each follows."""
