"""The life of a run, step by step, with every hook: `life.md` and its drawing `life.svg` are made from this.

The order is that of `core/ftcore/run/pipeline.py` and `training.py`; `tests/test_life.py` compares it with the hooks of
a real run, and wants every hook to be here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape


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


# The drawing: what ftcore does on the left, whom it asks on the right.

_WIDTH = 682
_LEFT, _LEFT_WIDTH = 40, 372
_RIGHT, _RIGHT_WIDTH = 396, 270
_LINE, _CALL = 18, 46
_LETTERS = 48  # of a line of text on the left


def drawing() -> str:
    """The text of `life.svg`. Colours come from the page around it, or from the reader's system."""
    parts: list[str] = []
    y = 8
    for number, part in enumerate(LIFE):
        body, height = _part(part, y, number)
        parts += body
        y += height + 24
    hooks_of = "; ".join(
        f"{step.title}: {', '.join(call.name for call in step.calls)}"
        for part in LIFE
        for step in part.steps
        if step.calls
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" width="{_WIDTH}" height="{y}" role="group" '
        'aria-labelledby="life-title life-text">\n'
        '<title id="life-title">The life of a run</title>\n'
        f'<desc id="life-text">{escape(hooks_of)}</desc>\n<style>{_STYLE}</style>'
    )
    return "\n".join([head, f'<rect class="life-page" width="{_WIDTH}" height="{y}"/>', *parts, "</svg>"]) + "\n"


def _part(part: Part, top: int, number: int) -> tuple[list[str], int]:
    y = top + 34
    body: list[str] = []
    last = 0
    for index, step in enumerate(part.steps):
        lines = _wrapped(step.text, _LETTERS)
        height = max(34 + _LINE * len(lines), _CALL * len(step.calls)) + 8
        middle = y + 17
        if number < 2:
            body.append(f'<circle class="life-dot" cx="{_LEFT - 14}" cy="{middle}" r="5"/>')
            if index:
                body.append(f'<path class="life-line" d="M{_LEFT - 14} {last + 5}V{middle - 5}"/>')
        last = middle
        body.append(f'<text class="life-step" x="{_LEFT}" y="{middle + 5}">{escape(step.title)}</text>')
        body += [
            f'<text class="life-text" x="{_LEFT}" y="{middle + 5 + _LINE * row}">{escape(line.replace("`", ""))}</text>'
            for row, line in enumerate(lines, 1)
        ]
        for row, call in enumerate(step.calls):
            body += _call(call, y + _CALL * row, middle, row)
        y += height
    height = y - top
    box = f'<rect class="life-part" x="1" y="{top}" width="{_WIDTH - 2}" height="{height}" rx="10"/>'
    title = f'<text class="life-title" x="16" y="{top + 23}">{escape(part.title)}</text>'
    return [box, title, *body], height


def _call(call: Call, y: int, middle: int, row: int) -> list[str]:
    kind = "life-hook" if call.is_hook else "life-method"
    line = f"M{_RIGHT - 16} {middle}H{_RIGHT}" if not row else f"M{_RIGHT - 16} {middle}V{y + 19}H{_RIGHT}"
    return [
        f'<path class="life-line" d="{line}"/>',
        f'<a href="hooks.html#{call.link}"><rect class="{kind}" x="{_RIGHT}" y="{y}" width="{_RIGHT_WIDTH}" height="38" rx="6"/>'
        f'<text class="life-name" x="{_RIGHT + 12}" y="{y + 16}">{escape(call.name)}</text>'
        f'<text class="life-who" x="{_RIGHT + 12}" y="{y + 31}">{escape(call.who)}</text></a>',
    ]


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text.replace("`", ""), width)


_STYLE = (
    "svg{--life-page:#fff;--life-ink:#1f2328;--life-soft:#57606a;--life-edge:#d0d7de;--life-part:#f6f8fa;"
    "--life-hook:#dfe4fb;--life-method:#fff;--life-mark:#4051b5}"
    "@media(prefers-color-scheme:dark){svg{--life-page:#0d1117;--life-ink:#e6edf3;--life-soft:#9aa4af;--life-edge:#3d444d;"
    "--life-part:#161b22;--life-hook:#2b3360;--life-method:#0d1117;--life-mark:#93a0f5}}"
    ".life-page{fill:var(--life-page)}.life-part{fill:var(--life-part);stroke:var(--life-edge)}"
    ".life-hook{fill:var(--life-hook);stroke:var(--life-mark)}"
    ".life-method{fill:var(--life-method);stroke:var(--life-edge)}"
    ".life-line{fill:none;stroke:var(--life-mark);stroke-width:1.5}.life-dot{fill:var(--life-mark)}"
    "svg text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:var(--life-ink)}"
    "svg .life-title{font-size:14px;font-weight:600;fill:var(--life-mark)}svg .life-step{font-size:15px;font-weight:600}"
    "svg .life-text{font-size:13px;fill:var(--life-soft)}"
    "svg .life-name{font-size:13px;font-family:ui-monospace,'DejaVu Sans Mono',monospace}"
    "svg .life-who{font-size:12px;fill:var(--life-soft)}"
)

_HEAD = """<!-- Written by docs/generate.py from docs/life.py; change that. -->

# The life of a run

ftcore does as little as it can by itself. At each step it asks a plugin, by calling a **hook** (filled boxes). Some hooks
return an object, and ftcore calls that object's methods later (empty boxes). Follow the line from top to bottom to see
when your plugin has its turn.

![The steps of a run, with the hooks that each of them calls; the same in words stands below](life.svg)

`ftcore plugins why config.toml` says which plugin serves each stage of your run. The same steps in words:"""
