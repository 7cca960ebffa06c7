"""Pushes the trained model to the Hugging Face Hub."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ftcore import hookimpl
from ftcore.contracts import Run, Saved, Trained
from ftcore.errors import Problem, SaveError
from ftcore_hub import tokens
from ftcore_hub.checks import problems
from ftcore_hub.push import DEFAULT_ENDPOINT, Hub, endpoint_of
from ftcore_hub.refusal import Refusal
from ftcore_hub.settings import HubSettings

if TYPE_CHECKING:
    from ftcore.config import Config


@hookimpl
def ftcore_settings() -> type[HubSettings]:
    """The section `[hub]`."""
    return HubSettings


@hookimpl
def ftcore_check(config: Config, settings: HubSettings) -> Iterator[Problem]:
    """Find out before the training what would stop the push after it. Asks no network."""
    return problems(config, settings)


@hookimpl
def ftcore_preflight(config: Config, run_name: str, settings: HubSettings) -> Iterator[Problem]:
    """Ask the Hub before the training whether it would take the model after it: the token, its scope, the repository."""
    token = tokens.find()
    if token is None or find_spec("huggingface_hub") is None:
        return  # ftcore_check has said so
    told: list[str] = []
    where = "fine_tuner.push_to_hub" if config.fine_tuner.push_to_hub else "stages.savers"
    try:
        Hub(settings, token, told.append, pauses=(2.0,)).rehearse(run_name)
    except Refusal as refusal:
        message = tokens.hide(f"the model could not be pushed: {refusal.why}", token)
        if refusal.passing:
            yield Problem(where, message, "The run goes on; pushing is tried again in the end", severity="warning")
        else:
            yield Problem(where, message, tokens.hide(refusal.fix, token))
    for warning in told:
        if "; try " not in warning:  # how often it was tried does not matter where it went well
            yield Problem(where, tokens.hide(warning, token), severity="warning")


@hookimpl
def ftcore_save(run: Run, trained: Trained, settings: HubSettings) -> Saved:
    """Upload `<run>/model`, written first where no other saver has done so, or `<run>/merged`, as `[hub] pushes` says.

    Pushing again sends only what changed.

    Raises:
        SaveError: the Hub did not take it; the message says how to upload the folder by hand.
    """
    folder = _folder(run, trained, settings)
    if find_spec("huggingface_hub") is None:
        raise _failed(settings, run, folder, "huggingface_hub is not installed", "Type: pip install 'ftcore[hub]'")
    token = tokens.find()
    if token is None:
        raise _failed(settings, run, folder, "there is no access token", "Set HF_TOKEN")
    what = _WHAT[settings.pushes if trained.kind == "adapter" else "full"]
    _warn_of_local_base(run, folder)
    message = settings.commit_message or f"{what[:1].upper()}{what[1:]} of the ftcore run {run.name}"
    repo_id = settings.repo_id or run.name
    try:
        hub = Hub(settings, token, run.warn)
        to = hub.preflight(run.name)
        repo_id = to.repo_id
        run.say(f"pushing    {folder} to {to.url}")
        hub.push(folder, to, message)
    except Refusal as refusal:
        raise _failed(settings, run, folder, refusal.why, refusal.fix, repo_id, token) from refusal.__cause__
    return Saved(f"pushed {what}", to.url)


_WHAT = {"adapter": "LoRA adapter", "merged": "merged model", "full": "model"}


def _folder(run: Run, trained: Trained, settings: HubSettings) -> Path:
    """The folder to push, complete."""
    if settings.pushes == "merged":
        folder = run.dir / "merged"
        if not (folder / "config.json").exists():
            raise SaveError(
                f"there is no merged model in {folder} to push",
                why='[hub] pushes is "merged", and the saver merged has not written one',
                fix=f"Type ftcore merge {run.dir}, then ftcore push {run.dir}",
            )
        return folder
    folder = run.dir / "model"
    # A resumed run may find the model of its first part there.
    if run.resumed or not folder.exists():
        trained.export(folder)
    return folder


def _warn_of_local_base(run: Run, folder: Path) -> None:
    # PEFT writes down where the base model was loaded from; elsewhere nobody has that folder.
    try:
        base = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # no adapter: nothing depends on another model
    if isinstance(base, str) and Path(base).expanduser().exists():
        run.warn(f"the adapter names its base model by a path of this machine ({base}): others must give it themselves")


def _failed(
    settings: HubSettings, run: Run, folder: Path, why: str, fix: str, repo_id: str = "", token: str | None = None
) -> SaveError:
    repo_id = repo_id or settings.repo_id or run.name
    endpoint = endpoint_of(settings)
    command = ["hf", "upload", repo_id, str(folder), "."]
    command += ["--private"] if settings.private else []
    command += ["--revision", settings.revision] if settings.revision else []
    there = "" if endpoint == DEFAULT_ENDPOINT else f"HF_ENDPOINT={shlex.quote(endpoint)} "
    advice = f"{fix}; then type" if fix else "Mend that; then type"
    advice = f"{advice}: ftcore push {shlex.quote(str(run.dir))}, or without ftcore"
    return SaveError(
        tokens.hide(f"the model was trained and lies in {folder}, but was not pushed to {repo_id}", token),
        why=tokens.hide(why, token),
        fix=tokens.hide(f"{advice}: {there}{shlex.join(command)}", token),
    )


__all__ = ["HubSettings", "ftcore_check", "ftcore_preflight", "ftcore_save", "ftcore_settings"]
