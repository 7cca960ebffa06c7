"""The `ftcore` command: finds the command's module, and turns expected errors into one line and an exit code."""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Any, NoReturn

import click

from ftcore import telemetry
from ftcore.errors import EXIT_CODES, FtcoreError

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


class LazyGroup(click.Group):
    """Imports a command when it is asked for; plugins are only loaded for a command that ftcore does not have."""

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
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.captureWarnings(False)


def main(args: list[str] | None = None) -> NoReturn:
    """Run the command line; ends the process with a documented exit code."""
    telemetry.switch_off()
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
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except FtcoreError as error:
        from ftcore.secrets import mask

        for line in str(error).splitlines():
            _fail(mask(line))
        sys.exit(error.exit_code)
    except Exception as error:
        # A bug keeps its traceback; what stands in it may have come from the environment.
        from traceback import format_exception

        from ftcore.secrets import mask

        click.echo(mask("".join(format_exception(error))), err=True, nl=False)
        sys.exit(1)
    sys.exit(outcome if isinstance(outcome, int) else 0)


def _fail(line: str) -> None:
    prefix = "" if ": warning: " in line else "error: "
    click.echo(f"{prefix}{line}", err=True)
