"""The life of a run, step by step, with every hook: `life.md` and its drawing `life.svg` are made from this.

The order is that of `core/ftcore/run/pipeline.py` and `training.py`; `tests/test_life.py` compares it with the hooks of
a real run, and wants every hook to be here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Call:
    """A hook, or a method of an object that a hook made.

    Attributes:
        name: `ftcore_…`, or `Kind.method`.
        who: which plugins are asked.
    """

    name: str
    who: str

    @property
    def is_hook(self) -> bool:
        return self.name.startswith("ftcore_")

    @property
    def link(self) -> str:
        """Where the reference has it."""
        return self.name if self.is_hook else self.name.partition(".")[0].lower()


@dataclass(frozen=True)
class Step:
    """What ftcore does, and whom it asks.

    Attributes:
        title: in two to four words.
        text: what happens, and why here.
        calls: in their order.
    """

    title: str
    text: str
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True)
class Part:
    """Steps that happen in one place."""

    title: str
    text: str
    steps: tuple[Step, ...]


LIFE = (
    Part(
        "The process that launches",
        "`ftcore run` begins here. Nothing heavy is imported yet, so a mistake shows in a moment.",
        (
            Step(
                "Read the configuration",
                "Every plugin is imported and says what its section may hold. Files that it extends and policies add "
                "their values. An unknown key is an error.",
                (
                    Call("ftcore_settings", "every plugin"),
                    Call("ftcore_base_config", "the prefix of extends"),
                    Call("ftcore_policy", "every plugin"),
                ),
            ),
            Step(
                "Choose the plugins",
                'By the configuration. For a stage on "auto" plugins make offers, and the best one wins.',
                (Call("ftcore_bid", 'every plugin, stage "loader"'),),
            ),
            Step(
                "Check",
                "All problems are reported together. `ftcore check` stops here.",
                (Call("ftcore_check", "every plugin"),),
            ),
            Step(
                "Name the run",
                "The name is also the folder. A name that is taken is an error.",
                (Call("ftcore_name_run", "one after the other, until one answers"),),
            ),
            Step(
                "Look ahead",
                "What would fail in the end is found now, also by asking the network.",
                (Call("ftcore_preflight", "plugins with a part in the run"),),
            ),
            Step("Make the run directory", "From here on there is a log, and `--resume` finds the run."),
            Step(
                "Launch",
                "Train in this process, in another one, or on another machine.",
                (Call("ftcore_launch", "[stages] launcher"),),
            ),
        ),
    ),
    Part(
        "The process that trains",
        "Cheap steps come first. The model is loaded when the data have turned out to be good.",
        (
            Step("Begin", "The work begins.", (Call("ftcore_run_started", "every plugin"),)),
            Step(
                "Load the tokenizer",
                "An id with a prefix is turned into a folder or a Hub id first.",
                (
                    Call("ftcore_resolve_model", "the prefix of base_model_id"),
                    Call("ftcore_make_loader", "[stages] loader"),
                    Call("Loader.tokenizer", "that loader"),
                ),
            ),
            Step(
                "Start the reporters",
                "Each in a thread of its own, beside everything that follows.",
                (Call("ftcore_make_reporter", "each of report_to"), Call("Reporter.start", "each reporter")),
            ),
            Step(
                "Load the data",
                "The training rows, then the validation rows.",
                (Call("ftcore_load_dataset", "the prefix of each id"),),
            ),
            Step(
                "Choose the formatter",
                "Now the columns are known.",
                (
                    Call("ftcore_bid", 'every plugin, stage "formatter"'),
                    Call("ftcore_make_formatter", "[stages] formatter"),
                ),
            ),
            Step(
                "Prepare tokens and labels",
                "The formatter turns rows into conversations, the trainer turns those into tokens.",
                (Call("ftcore_make_trainer", "[stages] trainer"), Call("Trainer.prepare", "that trainer")),
            ),
            Step("Audit", "Is there something to learn, and is nothing cut off? Bad data stop the run here."),
            Step("Load the model", "The expensive step.", (Call("Loader.model", "that loader"),)),
            Step(
                "Train",
                "A dry step on the longest batch, an evaluation, the fit, and an evaluation.",
                (
                    Call("Trainer.attach", "that trainer"),
                    Call("Trainer.evaluate", "that trainer"),
                    Call("Trainer.fit", "that trainer"),
                    Call("Reporter.log", "each reporter, from its thread"),
                ),
            ),
            Step(
                "Save",
                "One saver after the other. One that fails keeps none of the others from saving.",
                (Call("ftcore_save", "each of [stages] savers"),),
            ),
            Step(
                "End",
                "Reporters get the files and are closed, then everybody hears how it ended.",
                (
                    Call("Reporter.finish", "each reporter"),
                    Call("ftcore_run_finished", "every plugin; also when interrupted"),
                    Call("ftcore_run_failed", "every plugin; instead, after an error"),
                ),
            ),
        ),
    ),
    Part(
        "Outside of a run",
        "Hooks that other commands call.",
        (
            Step(
                "ftcore estimate",
                "One step is traced, to count the memory that it takes.",
                (Call("ftcore_trace_loss", "[stages] trainer"),),
            ),
            Step(
                "ftcore ask",
                "A saved model was loaded and is about to answer.",
                (Call("ftcore_answering", "every plugin"),),
            ),
            Step(
                "A command that ftcore does not have",
                "Plugins may add their own.",
                (Call("ftcore_register_commands", "every plugin"),),
            ),
        ),
    ),
)
"""Everything that happens, from top to bottom."""


def hooks() -> list[str]:
    """The names of all hooks on the page, in their order; one that is called twice is there twice."""
    return [call.name for part in LIFE for step in part.steps for call in step.calls if call.is_hook]


def asked(hook: str) -> str:
    """Who is asked, in words."""
    found = [call.who for part in LIFE for step in part.steps for call in step.calls if call.name == hook]
    if not found:
        raise SystemExit(f"docs/life.py does not show {hook}: put it into the step that calls it")
    return "; ".join(_WORDS.get(who, who) for who in found)


_WORDS = {
    "the prefix of base_model_id": "the plugin named by the prefix of `base_model_id`",
    "the prefix of each id": "the plugin named by the prefix of the id",
    "the prefix of extends": "the plugin named by the prefix of `extends`",
    "each of report_to": "each plugin named in `report_to`",
    "each of [stages] savers": "each plugin named in `[stages] savers`",
    **{
        f"[stages] {stage}": f"the plugin of `[stages] {stage}`"
        for stage in ("launcher", "loader", "formatter", "trainer")
    },
}
"""What is short in the drawing, in full."""


def place(hook: str) -> str:
    """Where it is called, in words."""
    parts = [part for part in LIFE for step in part.steps for call in step.calls if call.name == hook]
    titles = ["the process of the command" if part is LIFE[-1] else part.title.lower() for part in parts]
    return " and ".join(dict.fromkeys(titles))


def page() -> str:
    """The text of `life.md`."""
    return "\n\n".join([_HEAD, *_in_words()]) + "\n"


def _in_words() -> Iterator[str]:
    for part in LIFE:
        yield f"## {part.title}"
        yield part.text
        steps = [_step_in_words(number, step) for number, step in enumerate(part.steps, 1)]
        yield "\n".join(steps)


def _step_in_words(number: int, step: Step) -> str:
    lines = [f"{number}. **{step.title}.** {step.text}"]
    lines += [f"    - [`{call.name}`](hooks.md#{call.link}): {_WORDS.get(call.who, call.who)}" for call in step.calls]
    return "\n".join(lines)


_HEAD = """<!-- Written by docs/generate.py from docs/life.py; change that. -->

# The life of a run

ftcore does as little as it can by itself. At each step it asks a plugin, by calling a **hook** (filled boxes). Some hooks
return an object, and ftcore calls that object's methods later (empty boxes). Follow the line from top to bottom to see
when your plugin has its turn.

![The steps of a run, with the hooks that each of them calls; the same in words stands below](life.svg)

`ftcore plugins why config.toml` says which plugin serves each stage of your run. The same steps in words:"""
