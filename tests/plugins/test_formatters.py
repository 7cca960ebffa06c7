"""The formatters `qa`, `instruction` and `messages`: what they read, what they refuse, and who offers to serve."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftcore import config as configuration
from ftcore.config import Config
from ftcore.contracts import Conversation, DataView, Formatter
from ftcore.errors import ConfigError, FormatMismatch, FtcoreError, PluginError, Problem
from ftcore.plugins import Plugins, discover, selection
from ftcore.settings.data import DataSettings
from ftcore_formats.instruction import InstructionFormatter, InstructionSettings
from ftcore_formats.messages import MessagesFormatter, MessagesSettings
from ftcore_formats.qa import QaFormatter

Row = Mapping[str, Any]


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    return discover()


def view(columns: Sequence[str], sample: Sequence[Row] = (), **keys: Any) -> DataView:
    return DataView(list(columns), DataSettings(training_data_id="rows.jsonl", **keys), list(sample))


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def make(plugins: Plugins, name: str, data: DataView, section: Any = None) -> Formatter:
    made = plugins.call("ftcore_make_formatter", name, data=data, settings=section)
    assert isinstance(made, Formatter)
    return made


TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
SHARED = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]

# formatter, [fine_tuner] keys, own section, row, conversation
READ: list[tuple[str, dict[str, Any], Any, Row, list[dict[str, str]]]] = [
    ("qa", {}, None, {"question": "q", "answer": "a"}, [user("q"), assistant("a")]),
    ("qa", {}, None, {"question": " q\n", "answer": "\ta "}, [user(" q\n"), assistant("\ta ")]),
    ("qa", {}, None, {"question": "q", "answer": "a", "system": "s"}, [system("s"), user("q"), assistant("a")]),
    ("qa", {}, None, {"question": "q", "answer": "a", "system": None}, [user("q"), assistant("a")]),
    ("qa", {}, None, {"question": "q", "answer": "a", "system": " "}, [user("q"), assistant("a")]),
    (
        "qa",
        {"question_column": "Q", "ground_truth_column": "A", "system_prompt_column": "S"},
        None,
        {"Q": "q", "A": "a", "S": "s", "question": "not", "answer": "these", "system": "ones"},
        [system("s"), user("q"), assistant("a")],
    ),
    (
        "qa",
        {"question_column": "instruction", "ground_truth_column": "output"},
        None,
        {"instruction": "q", "output": "a"},
        [user("q"), assistant("a")],
    ),
    (
        "qa",
        {"system_prompt_override_text": "o"},
        None,
        {"question": "q", "answer": "a", "system": 5},
        [system("o"), user("q"), assistant("a")],
    ),
    (
        "qa",
        {"system_prompt_override_text": ""},
        None,
        {"question": "q", "answer": "a", "system": "s"},
        [user("q"), assistant("a")],
    ),
    (
        "qa",
        {"system_prompt_override_text": "o", "system_prompt_column": "not there"},
        None,
        {"question": "q", "answer": "a"},
        [system("o"), user("q"), assistant("a")],
    ),
    ("instruction", {}, None, {"instruction": "do", "output": "done"}, [user("do"), assistant("done")]),
    (
        "instruction",
        {},
        None,
        {"instruction": "do", "input": " it ", "output": "done", "system": "s"},
        [system("s"), user("do\n\n it "), assistant("done")],
    ),
    ("instruction", {}, None, {"instruction": "do", "input": "", "output": "done"}, [user("do"), assistant("done")]),
    ("instruction", {}, None, {"instruction": "do", "input": None, "output": "x"}, [user("do"), assistant("x")]),
    ("instruction", {}, None, {"instruction": "do", "input": " \n", "output": "x"}, [user("do"), assistant("x")]),
    (
        "instruction",
        {"question_column": "Q", "ground_truth_column": "A"},
        None,
        {"Q": "do", "input": "it", "A": "done"},
        [user("do\n\nit"), assistant("done")],
    ),
    (
        "instruction",
        {"system_prompt_override_text": "o"},
        InstructionSettings(instruction_column="I", input_column="C", output_column="O"),
        {"I": "do", "C": "it", "O": "done", "input": "not this"},
        [system("o"), user("do\n\nit"), assistant("done")],
    ),
    (
        "instruction",
        {"question_column": "I"},
        InstructionSettings(instruction_column="I"),
        {"I": "do", "output": "done"},
        [user("do"), assistant("done")],
    ),
    ("messages", {}, None, {"messages": TURNS}, [user("q"), assistant("a")]),
    ("messages", {}, None, {"messages": tuple(TURNS)}, [user("q"), assistant("a")]),
    ("messages", {}, None, {"conversations": SHARED}, [user("q"), assistant("a")]),
    ("messages", {}, None, {"conversations": TURNS}, [user("q"), assistant("a")]),
    ("messages", {}, MessagesSettings(column="chat"), {"chat": SHARED, "messages": None}, [user("q"), assistant("a")]),
    (
        "messages",
        {},
        None,
        {"messages": [system("s"), *TURNS, user(" q2"), assistant("a2 ")]},
        [system("s"), user("q"), assistant("a"), user(" q2"), assistant("a2 ")],
    ),
    (
        "messages",
        {},
        None,
        {"conversations": [{"from": "system", "value": "s"}, *SHARED]},
        [system("s"), user("q"), assistant("a")],
    ),
    ("messages", {}, None, {"messages": [{"role": "developer", "content": "s"}, *TURNS]}, [system("s"), *TURNS]),
    ("messages", {}, None, {"messages": [system(""), *TURNS]}, TURNS),
    ("messages", {}, None, {"messages": [{"role": "system", "content": None}, *TURNS]}, TURNS),
    (
        "messages",
        {},
        None,
        {"messages": [user("q"), assistant("let me see"), {"role": "tool", "content": "4"}, assistant("4")]},
        [user("q"), assistant("let me see"), {"role": "tool", "content": "4"}, assistant("4")],
    ),
    (  # what Arrow makes of rows that differ: every key everywhere, null where a row had none
        "messages",
        {},
        None,
        {"messages": [{"role": "user", "content": "q", "name": None, "tool_calls": None}, assistant("a")]},
        TURNS,
    ),
    ("messages", {}, None, {"messages": TURNS, "system": "s"}, [system("s"), *TURNS]),
    ("messages", {}, None, {"messages": [system("s"), *TURNS], "system": "s"}, [system("s"), *TURNS]),
    ("messages", {}, None, {"messages": [system("s"), *TURNS], "system": ""}, [system("s"), *TURNS]),
    (
        "messages",
        {"system_prompt_column": "S"},
        None,
        {"messages": [system("s"), *TURNS], "S": "column"},
        [system("column"), *TURNS],
    ),
    (
        "messages",
        {"system_prompt_override_text": "o"},
        None,
        {"messages": [system("s"), *TURNS], "system": "t"},
        [system("o"), *TURNS],
    ),
    ("messages", {"system_prompt_override_text": "o"}, None, {"messages": TURNS}, [system("o"), *TURNS]),
    ("messages", {"system_prompt_override_text": ""}, None, {"messages": [system("s"), *TURNS]}, TURNS),
]


@pytest.mark.parametrize(("name", "keys", "section", "row", "conversation"), READ)
def test_a_row_becomes_a_conversation(
    name: str, keys: dict[str, Any], section: Any, row: Row, conversation: Conversation, plugins: Plugins
) -> None:
    formatter = make(plugins, name, view(row.keys(), [row], **keys), section)
    before = copy.deepcopy(row)
    assert formatter(row) == conversation
    assert pickle.loads(pickle.dumps(formatter)) == formatter
    assert pickle.loads(pickle.dumps(formatter))(row) == conversation
    assert row == before


QA = QaFormatter("question", "answer", "system")
INSTRUCTION = InstructionFormatter("instruction", "output", "input", "system")
MESSAGES = MessagesFormatter("messages", "system")

BAD: list[tuple[Formatter, Row, str]] = [
    (QA, {"question": "", "answer": "a", "system": ""}, '"question" is empty'),
    (QA, {"question": " \n\u3000", "answer": "a", "system": ""}, '"question" is only white space'),
    (QA, {"question": None, "answer": "a", "system": ""}, '"question" is null'),
    (QA, {"question": 4, "answer": "a", "system": ""}, '"question" is not text but a number'),
    (QA, {"question": True, "answer": "a", "system": ""}, '"question" is not text but true or false'),
    (QA, {"question": ["q"], "answer": "a", "system": ""}, '"question" is not text but a list'),
    (QA, {"question": {"q": 1}, "answer": "a", "system": ""}, '"question" is not text but an object'),
    (QA, {"question": b"q", "answer": "a", "system": ""}, '"question" is not text but a bytes'),
    (QA, {"question": "q", "answer": "", "system": ""}, '"answer" is empty'),
    (QA, {"question": "q", "answer": None, "system": ""}, '"answer" is null'),
    (QA, {"question": "q", "system": ""}, 'there is no column "answer"'),
    (QA, {"question": "q", "answer": "a", "system": 1.5}, '"system" is not text but a number'),
    (QA, {"question": "q", "answer": "a"}, 'there is no column "system"'),
    (INSTRUCTION, {"instruction": "", "input": "i", "output": "o", "system": ""}, '"instruction" is empty'),
    (INSTRUCTION, {"instruction": "i", "input": 3, "output": "o", "system": ""}, '"input" is not text but a number'),
    (INSTRUCTION, {"instruction": "i", "output": "o", "system": ""}, 'there is no column "input"'),
    (INSTRUCTION, {"instruction": "i", "input": "", "output": None, "system": ""}, '"output" is null'),
    *(
        (MESSAGES, {"messages": cell, "system": None}, text)
        for cell, text in [
            (None, '"messages" is null'),
            ([], '"messages" is empty'),
            ("user: q", '"messages" is not a list of turns but text'),
            (7, '"messages" is not a list of turns but a number'),
            ({"role": "user"}, '"messages" is not a list of turns but an object'),
            (["q", "a"], "turn 1 is not an object with role and content"),
            ([{"content": "q"}], 'turn 1 has neither "role" nor "from"'),
            (
                [{"role": "robot", "content": "q"}],
                "turn 1 has the unknown role 'robot'; known are system, developer, user, human, assistant, gpt, tool",
            ),
            (
                [{"role": 1, "content": "q"}],
                "turn 1 has the unknown role '1'; known are system, developer, user, human, assistant, gpt, tool",
            ),
            ([assistant("a")], "turn 1 is the assistant's and is the first: expected system or user"),
            ([user("q"), user("q")], "turn 2 is the user's and follows the user's: expected assistant"),
            ([*TURNS, assistant("b")], "turn 3 is the assistant's and follows the assistant's: expected user or tool"),
            ([*TURNS, system("s")], "turn 3 is the system's and follows the assistant's: expected user or tool"),
            ([system("s"), assistant("a")], "turn 2 is the assistant's and follows the system's: expected user"),
            ([user("q")], "no turn is the assistant's"),
            ([system("s")], "no turn is the assistant's"),
            ([*TURNS, user("q")], "the last turn is the user's and has no answer"),
            ([user("q"), assistant("")], '"content" of turn 2 is empty'),
            ([user("q"), {"role": "assistant", "content": None}], '"content" of turn 2 is null'),
            ([user(" "), assistant("a")], '"content" of turn 1 is only white space'),
            (
                [{"from": "human", "value": 1}, {"from": "gpt", "value": "a"}],
                '"value" of turn 1 is not text but a number',
            ),
            (
                [{"role": "user", "content": [{"type": "text", "text": "q"}]}, assistant("a")],
                '"content" of turn 1 is not text but a list',
            ),
            (
                [user("q"), {"role": "assistant", "content": "a", "tool_calls": [{"id": 1}]}],
                'turn 2 has "tool_calls", which this formatter does not read',
            ),
            ([{**user("q"), "weight": 0}, assistant("a")], 'turn 1 has "weight", which this formatter does not read'),
        ]
    ),
    (MESSAGES, {"conversations": TURNS}, 'there is no column "messages"'),
    (
        MESSAGES,
        {"messages": [system("one"), *TURNS], "system": "another"},
        'the system turn and the column "system" differ; system_prompt_column = "system" makes the column win',
    ),
]


@pytest.mark.parametrize(("formatter", "row", "text"), BAD, ids=[text[:60] for _, _, text in BAD])
def test_a_bad_row_says_why(formatter: Formatter, row: Row, text: str) -> None:
    with pytest.raises(ValueError) as raised:
        formatter(row)
    assert str(raised.value) == text
    assert type(raised.value) is ValueError


# formatter, columns, [fine_tuner] keys, own section, error, text
MISMATCHED: list[tuple[str, list[str], dict[str, Any], Any, type[FtcoreError], str]] = [
    (
        "qa",
        ["questoin", "answer"],
        {},
        None,
        FormatMismatch,
        "the formatter 'qa' needs the column \"question\": the columns of the training data are questoin, answer. "
        'Did you mean question_column = "questoin"?',
    ),
    (
        "qa",
        ["Question", "Answer"],
        {},
        None,
        FormatMismatch,
        'the formatter \'qa\' needs the columns "question" and "answer": the columns of the training data are '
        'Question, Answer. Did you mean question_column = "Question"?; Did you mean ground_truth_column = "Answer"?',
    ),
    (
        "qa",
        ["question", "answer"],
        {"question_column": "prompt"},
        None,
        FormatMismatch,
        "the formatter 'qa' needs the column \"prompt\": the columns of the training data are question, answer. "
        "Name the column with question_column",
    ),
    (
        "qa",
        ["question", "answer", "sys"],
        {"system_prompt_column": "syst"},
        None,
        FormatMismatch,
        "the formatter 'qa' needs the column \"syst\": the columns of the training data are question, answer, sys. "
        'Did you mean system_prompt_column = "sys"?',
    ),
    (
        "instruction",
        [],
        {},
        None,
        FormatMismatch,
        'the formatter \'instruction\' needs the columns "instruction" and "output": the columns of the training '
        "data are none. Name the column with [instruction] instruction_column; "
        "Name the column with [instruction] output_column",
    ),
    (
        "instruction",
        ["instruction", "output", "inputs"],
        {},
        InstructionSettings(input_column="input"),
        FormatMismatch,
        "the formatter 'instruction' needs the column \"input\": the columns of the training data are instruction, "
        'output, inputs. Did you mean [instruction] input_column = "inputs"?',
    ),
    (
        "instruction",
        ["instruction", "output"],
        {"ground_truth_column": "outptu"},
        None,
        FormatMismatch,
        "the formatter 'instruction' needs the column \"outptu\": the columns of the training data are instruction, "
        'output. Did you mean ground_truth_column = "output"?',
    ),
    (
        "instruction",
        ["a", "b", "output"],
        {"question_column": "a"},
        InstructionSettings(instruction_column="b"),
        ConfigError,
        '[instruction] instruction_column = "b" and question_column = "a" mean the same column and differ. '
        "Set one of them",
    ),
    (
        "messages",
        ["message", "id"],
        {},
        None,
        FormatMismatch,
        "the formatter 'messages' needs the column \"messages\": the columns of the training data are message, id. "
        'Did you mean [messages] column = "message"?',
    ),
    (
        "messages",
        ["messages"],
        {"question_column": "messages"},
        None,
        ConfigError,
        "question_column is set and the formatter 'messages' reads whole conversations. "
        "Remove question_column, or choose another [stages] formatter",
    ),
    (
        "messages",
        ["messages"],
        {"ground_truth_column": "answer"},
        None,
        ConfigError,
        "ground_truth_column is set and the formatter 'messages' reads whole conversations. "
        "Remove ground_truth_column, or choose another [stages] formatter",
    ),
]


@pytest.mark.parametrize(("name", "columns", "keys", "section", "kind", "text"), MISMATCHED)
def test_columns_that_do_not_fit(
    name: str,
    columns: list[str],
    keys: dict[str, Any],
    section: Any,
    kind: type[FtcoreError],
    text: str,
    plugins: Plugins,
) -> None:
    with pytest.raises(FtcoreError) as raised:
        make(plugins, name, view(columns, **keys), section)
    assert type(raised.value) is kind
    assert str(raised.value) == text


@pytest.mark.parametrize("cell", ["text", 3, [1], [{"a": 1}], [], {"role": "user"}])
def test_a_column_that_holds_no_conversations(cell: Any, plugins: Plugins) -> None:
    with pytest.raises(FormatMismatch) as raised:
        make(plugins, "messages", view(["messages"], [{"messages": cell}]))
    assert str(raised.value) == (
        'the column "messages" does not hold conversations: a conversation is a list of {"role", "content"} or '
        '{"from", "value"}. Name another column with [messages] column, or choose another [stages] formatter'
    )


def config(tmp_path: Path, plugins: Plugins, text: str = "", **keys: str) -> Config:
    path = tmp_path / "config.toml"
    lines = [f'{key} = "{value}"' for key, value in keys.items()]
    path.write_text(
        "[fine_tuner]\n"
        + "\n".join(['base_model_id = "some/model"', 'training_data_id = "rows.jsonl"', *lines])
        + f"\n{text}"
    )
    return configuration.load(path, plugins)


# columns, first row, [fine_tuner] keys, further TOML, chosen formatter (or part of the error), why
CHOSEN: list[tuple[list[str], Row, dict[str, str], str, str, str]] = [
    (["question", "answer"], {}, {}, "", "qa", "auto: the columns question and answer are there"),
    (["question", "answer", "id", "system"], {}, {}, "", "qa", "auto: the columns question and answer are there"),
    (
        ["prompt", "answer"],
        {},
        {"question_column": "prompt"},
        "",
        "qa",
        "auto: question_column and ground_truth_column give prompt and answer",
    ),
    (
        ["instruction", "output"],
        {},
        {},
        "",
        "instruction",
        "auto: the columns instruction and output are there",
    ),
    (
        ["instruction", "output", "input"],
        {},
        {},
        "",
        "instruction",
        "auto: the columns instruction and output are there, and input",
    ),
    (
        ["instruction", "input", "output"],
        {},
        {"question_column": "instruction", "ground_truth_column": "output"},
        "",
        "instruction",
        "auto: the columns instruction and output are there, and input",
    ),
    (
        ["q", "input", "a"],
        {},
        {"question_column": "q", "ground_truth_column": "a"},
        "",
        "qa",
        "auto: question_column and ground_truth_column give q and a",
    ),
    (
        ["do", "done"],
        {},
        {},
        '[instruction]\ninstruction_column = "do"\noutput_column = "done"\n',
        "instruction",
        "auto: the columns do and done are there",
    ),
    (
        ["messages", "question", "answer"],
        {"messages": TURNS},
        {},
        "",
        "messages",
        "auto: the column messages holds conversations",
    ),
    (
        ["messages", "question", "answer"],
        {"messages": TURNS},
        {"question_column": "question"},
        "",
        "qa",
        "auto: question_column and ground_truth_column give question and answer",
    ),
    (
        ["messages", "question", "answer"],
        {"messages": "a text"},
        {},
        "",
        "qa",
        "auto: the columns question and answer are there",
    ),
    (
        ["conversations"],
        {"conversations": SHARED},
        {},
        "",
        "messages",
        "auto: the column conversations holds conversations",
    ),
    (["conversations"], {"conversations": 1}, {}, "", "messages", "auto: a column is named conversations"),
    (
        ["chat"],
        {"chat": TURNS},
        {},
        '[messages]\ncolumn = "chat"\n',
        "messages",
        "auto: the column chat holds conversations",
    ),
    (["chat"], {}, {}, '[stages]\nformatter = "qa"\n', "qa", "named in [stages] formatter"),
]


@pytest.mark.parametrize(("columns", "row", "keys", "text", "name", "why"), CHOSEN)
def test_auto_chooses_by_the_columns_and_says_why(
    columns: list[str], row: Row, keys: dict[str, str], text: str, name: str, why: str, plugins: Plugins, tmp_path: Path
) -> None:
    chosen = config(tmp_path, plugins, text, **keys)
    data = DataView(columns, chosen.fine_tuner.view(DataSettings), [row] if row else [])
    choice = selection.formatter_for(chosen, plugins, data)
    assert (choice.plugin, choice.why) == (name, why)


def test_auto_does_not_guess(plugins: Plugins, tmp_path: Path) -> None:
    chosen = config(tmp_path, plugins)
    data = chosen.fine_tuner.view(DataSettings)
    with pytest.raises(FormatMismatch, match="no formatter reads the columns text, label"):
        selection.formatter_for(chosen, plugins, DataView(["text", "label"], data))
    with pytest.raises(PluginError, match="offer to serve it equally"):
        selection.formatter_for(chosen, plugins, DataView(["question", "answer", "instruction", "output"], data))


def problems(plugins: Plugins, chosen: Config) -> list[Problem]:
    return [
        problem
        for name in ("qa", "instruction", "messages")
        if name in plugins.implementing("ftcore_check")
        for problem in plugins.call("ftcore_check", name, config=chosen, settings=chosen.section(name))
    ]


# [fine_tuner] keys, further TOML, (where, message, fix)
CHECKED: list[tuple[dict[str, str], str, list[tuple[str, str, str]]]] = [
    ({}, '[stages]\nformatter = "messages"\n', []),
    ({"question_column": "q"}, "", []),
    ({"question_column": "q"}, '[stages]\nformatter = "qa"\n', []),
    (
        {"question_column": "q", "ground_truth_column": "a"},
        '[stages]\nformatter = "messages"\n',
        [
            (
                f"fine_tuner.{key}",
                f"{key} is set and the formatter 'messages' reads whole conversations",
                f"Remove {key}, or choose another [stages] formatter",
            )
            for key in ("question_column", "ground_truth_column")
        ],
    ),
    (
        {"ground_truth_column": "a"},
        '[stages]\nformatter = "instruction"\n[instruction]\noutput_column = "b"\n',
        [
            (
                "instruction.output_column",
                '[instruction] output_column = "b" and ground_truth_column = "a" mean the same column and differ',
                "Set one of them",
            )
        ],
    ),
    (
        {"ground_truth_column": "a"},
        '[stages]\nformatter = "instruction"\n[instruction]\noutput_column = "a"\n',
        [],
    ),
]


@pytest.mark.parametrize(("keys", "text", "wanted"), CHECKED)
def test_contradictions_are_found_before_any_work(
    keys: dict[str, str], text: str, wanted: list[tuple[str, str, str]], plugins: Plugins, tmp_path: Path
) -> None:
    found = problems(plugins, config(tmp_path, plugins, text, **keys))
    assert [(problem.where, problem.message, problem.fix) for problem in found] == wanted
    assert {problem.severity for problem in found} <= {"error"}


TEXTS = st.text(max_size=12)
CELLS = st.none() | TEXTS | st.integers() | st.booleans() | st.lists(TEXTS, max_size=2)
TURN = st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant", "tool", "x"]), "content": CELLS})
ROW = st.fixed_dictionaries(
    {
        **dict.fromkeys(["question", "answer", "instruction", "input", "output", "system"], CELLS),
        "messages": CELLS | st.lists(TURN, max_size=5),
    }
)


def attempt(formatter: Formatter, row: Row) -> Conversation | str:
    try:
        return formatter(row)
    except ValueError as error:
        return f"ValueError: {error}"


@given(row=ROW, override=st.none() | TEXTS)
@pytest.mark.parametrize("base", [QA, INSTRUCTION, MESSAGES], ids=["qa", "instruction", "messages"])
def test_formatters_are_pure_and_picklable_and_keep_texts(base: Any, row: Row, override: str | None) -> None:
    formatter = type(base)(**{**vars(base), "override": override})
    before = copy.deepcopy(row)
    first = attempt(formatter, row)
    assert row == before
    assert attempt(formatter, row) == first
    assert attempt(pickle.loads(pickle.dumps(formatter)), row) == first
    assert hash(formatter) == hash(pickle.loads(pickle.dumps(formatter)))
    if isinstance(first, str):
        assert "\n" not in first or "\n" in repr(row)
        return
    spoken = [turn for turn in first if turn["role"] != "system"]
    assert [turn["role"] for turn in first[: len(first) - len(spoken)]] in ([], ["system"])
    assert spoken[0]["role"] == "user"
    assert spoken[-1]["role"] == "assistant"
    assert all(turn["content"].strip() for turn in first)
    texts = [cell for cell in row.values() if isinstance(cell, str)]
    turns = row["messages"] if isinstance(row["messages"], list) else []
    texts += [turn["content"] for turn in turns if isinstance(turn, dict)] + [override]
    joined = f"{row['instruction']}\n\n{row['input']}"
    assert all(turn["content"] in texts or turn["content"] == joined for turn in first)


@given(
    question=TEXTS.filter(str.strip),
    answer=TEXTS.filter(str.strip),
    prompt=st.none() | TEXTS.filter(str.strip),
)
def test_one_conversation_in_every_shape(question: str, answer: str, prompt: str | None) -> None:
    wanted = [system(prompt)] if prompt else []
    wanted += [user(question), assistant(answer)]
    shared = [{"from": "system", "value": prompt}] if prompt else []
    shared += [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    assert QA({"question": question, "answer": answer, "system": prompt}) == wanted
    assert INSTRUCTION({"instruction": question, "input": None, "output": answer, "system": prompt}) == wanted
    assert MESSAGES({"messages": wanted, "system": None}) == wanted
    assert MESSAGES({"messages": shared, "system": None}) == wanted


def test_rows_of_a_real_dataset_go_through_worker_processes_as_they_are(plugins: Plugins) -> None:
    from datasets import Dataset

    rows = Dataset.from_list([{"messages": TURNS}, {"messages": [{**system("s"), "name": "n"}, *TURNS]}])
    formatter = make(plugins, "messages", view(rows.column_names, list(rows)))
    assert [formatter(row) for row in rows] == [TURNS, [system("s"), *TURNS]]


def test_the_plugins_are_there(plugins: Plugins) -> None:
    assert {"qa", "instruction", "messages"} <= set(plugins.serving("formatter"))
    assert plugins.call("ftcore_settings", "instruction") is InstructionSettings
    assert plugins.call("ftcore_settings", "messages") is MessagesSettings
