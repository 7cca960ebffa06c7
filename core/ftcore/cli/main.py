"""The `ftcore` command: finds the command's module, and turns expected errors into one line and an exit code."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO

import click

from ftcore import quiet, telemetry
from ftcore.errors import EXIT_CODES, ConfigError, DiskError, FtcoreError

COMMANDS = {
    "run": "Fine-tune a model as a configuration says.",
    "ask": "Let a trained model answer a question.",
    "merge": "Put a trained adapter into its base model's weights.",
    "finish": "Do what is left of a run whose training is over.",
    "push": "Push the model of a run to the Hugging Face Hub.",
    "report": "Send trackers what they have not got of a run.",
    "check": "Look for mistakes in a configuration, in a moment.",
    "preview": "Show what would be learned, token by token.",
    "plugins": "List the plugins, say who serves a run, or begin a new one.",
    "init": "Write a configuration to begin with.",
    "estimate": "Say how much memory a configuration will take.",
    "doctor": "Say what this machine has to train with.",
    "cache": "List or prune what is kept to save time.",
    "schema": "Print the configuration's JSON Schema, or install it for editors.",
}
"""The core's commands; each is the function of its name in the module of its name."""


class _ReaderGone(Exception):
    """Whoever read what a command prints, like `head`, has had enough."""


class LazyGroup(click.Group):
    """Imports a command when it is asked for; plugins are only loaded for a command that ftcore does not have."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _ReaderGone from error  # click would take it for a failure

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *sorted(self.commands)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            module = importlib.import_module(f"ftcore.cli.{cmd_name}")
            command = getattr(module, cmd_name)
            assert isinstance(command, click.Command)
            return command
        if not self.commands:
            _register_plugins_commands(self)
        return self.commands.get(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            from difflib import get_close_matches

            known = self.list_commands(ctx)
            close = get_close_matches(args[0], known, n=1)
            hint = f"Did you mean '{close[0]}'?" if close else f"Commands: {', '.join(known)}"
            raise click.UsageError(f"there is no command '{args[0]}'. {hint}", ctx) from None


def _register_plugins_commands(group: click.Group) -> None:
    from ftcore.plugins import discover

    plugins = discover()
    for name in plugins.implementing("ftcore_register_commands"):
        try:
            plugins.call("ftcore_register_commands", name, cli=group, settings=None)
        except FtcoreError as error:
            click.echo(f"warning: {error}", err=True)
        for taken in group.commands.keys() & COMMANDS.keys():
            del group.commands[taken]
            click.echo(f"warning: {plugins.get(name)} cannot replace ftcore's command '{taken}'", err=True)


def _epilog() -> str:
    codes = "  ".join(f"{code}: {meaning}." for code, meaning in EXIT_CODES.items())
    return f"Exit codes:  {codes}"


@click.group(cls=LazyGroup, epilog=_epilog(), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ftcore", prog_name="ftcore")
def cli() -> None:
    """Fine-tune language models from one configuration file; every stage is a plugin."""
    shown = logging.StreamHandler()
    shown.addFilter(quiet.Unheard())
    shown.setFormatter(_LowerCase())
    logging.basicConfig(level=logging.WARNING, handlers=[shown])
    logging.captureWarnings(False)
    quiet.tell_of_outages_once()


class _LowerCase(logging.Formatter):
    """As ftcore's own lines begin."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {super().format(record)}"


def main(args: list[str] | None = None) -> NoReturn:
    """Run the command line; ends the process with a documented exit code."""
    telemetry.switch_off()
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", "") == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # for terminals and pipes that do not know every character
    try:
        outcome: Any = cli.main(args=args, prog_name="ftcore", standalone_mode=False)
    except click.ClickException as error:
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            error.show()
        else:
            context = getattr(error, "ctx", None)
            hint = f" (`{context.command_path} --help` explains)" if context else ""
            _fail(f"{error.format_message()}{hint}")
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted")
        sys.exit(130)
    except (_ReaderGone, BrokenPipeError):
        _silence(sys.stdout)
        sys.exit(0)
    except FtcoreError as error:
        from ftcore.secrets import mask

        for line in str(error).splitlines():
            _fail(mask(line))
        sys.exit(error.exit_code)
    except OSError as error:
        if not _has_working_directory():
            _fail("the folder that this was started in is gone. Change to another one: cd")
            sys.exit(ConfigError.exit_code)
        if error.errno not in _OF_THE_SYSTEM:
            _show_bug(error)
        _fail(_told(error))
        _silence(sys.stdout)  # if it was that: what is left for it would be tried once more at the end
        sys.exit(_OF_THE_SYSTEM[error.errno])
    except Exception as error:
        _show_bug(error)
    sys.exit(outcome if isinstance(outcome, int) else 0)


_OF_THE_SYSTEM = {
    errno.ENOSPC: DiskError.exit_code,
    errno.EDQUOT: DiskError.exit_code,
    errno.EROFS: DiskError.exit_code,
    errno.EACCES: ConfigError.exit_code,
    errno.EPERM: ConfigError.exit_code,
    errno.ENAMETOOLONG: ConfigError.exit_code,
}
"""What the system says of a path or a disk, wherever that is noticed, is no bug."""


def _told(error: OSError) -> str:
    from ftcore.secrets import mask
    from ftcore.text import short

    what = short(mask(str(error.filename))) if error.filename else "the output"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{what} cannot be written: {error.strerror}. Make room"
    return f"{what} cannot be used: {error.strerror}. Check the path, and who may read and write there"


def _has_working_directory() -> bool:
    try:
        Path.cwd()
    except OSError:
        return False
    return True


def _silence(stream: TextIO) -> None:
    """Let what is still to be written to a stream that takes nothing any more go nowhere, or Python complains at its end."""
    with suppress(OSError, ValueError):  # nor has every stream a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _show_bug(error: Exception) -> NoReturn:
    # A bug keeps its traceback; what stands in it may have come from the environment.
    from traceback import format_exception

    from ftcore.secrets import mask

    click.echo(mask("".join(format_exception(error))), err=True, nl=False)
    sys.exit(1)


def _fail(line: str) -> None:
    prefix = "" if ": warning: " in line else "error: "
    click.echo(f"{prefix}{line}", err=True)
