"""`ftcore init`: what it writes is valid, commented, and fits the data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ftcore.config import load as load_config


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(name: str, *items: dict[str, Any]) -> str:
    Path(name).write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    return name


@pytest.mark.parametrize(
    ("gpu", "model", "length", "rows_", "accumulation", "rank"),
    [
        ("4gb", "unsloth/Qwen2.5-0.5B-Instruct-bnb-4bit", 1024, 1, 16, 8),
        ("8gb", "unsloth/Qwen2.5-1.5B-Instruct-bnb-4bit", 2048, 2, 8, 16),
        ("12gb", "unsloth/Llama-3.2-3B-Instruct-bnb-4bit", 4096, 4, 4, 32),
        ("80 GiB", "unsloth/Llama-3.2-3B-Instruct-bnb-4bit", 4096, 4, 4, 32),
        ("none", "HuggingFaceTB/SmolLM2-135M-Instruct", 512, 4, 4, 16),
    ],
)
def test_each_preset_is_valid_and_passes_the_check(
    ftcore: Any, plugins: Any, gpu: str, model: str, length: int, rows_: int, accumulation: int, rank: int
) -> None:
    import jsonschema
    import tomli

    from ftcore.schema import config_schema

    outcome = ftcore("init", "--gpu", gpu)
    assert outcome.code == 0, outcome.err
    settings = load_config(Path("config.toml"), plugins).fine_tuner
    assert settings.base_model_id == model
    assert settings.max_sequence_length == length
    assert (settings.device_train_batch_size, settings.grad_accumulation) == (rows_, accumulation)
    assert settings.rank == rank
    assert settings.load_in_4bit == (gpu != "none")
    text = Path("config.toml").read_text(encoding="utf-8")
    jsonschema.validate(tomli.loads(text), config_schema(plugins))
    assert sum(line.startswith("#") for line in text.splitlines()) > 10
    checked = ftcore("check", "config.toml")
    assert (checked.code, checked.errors) == (0, [])


@pytest.mark.parametrize(
    ("row", "formatter", "lines", "absent"),
    [
        ({"question": "q", "answer": "a"}, "qa", [], ["question_column ="]),
        ({"instruction": "q", "input": "", "output": "a"}, "instruction", [], ["question_column ="]),
        (
            {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
            "messages", [], ["question_column ="],
        ),
        (
            {"Prompt": "q", "completion": "a", "system_prompt": "s"},
            "qa",
            ['question_column = "Prompt"', 'ground_truth_column = "completion"', 'system_prompt_column = "system_prompt"'],
            [],
        ),
    ],
)  # fmt: skip
def test_the_columns_choose(
    ftcore: Any, plugins: Any, row: dict[str, Any], formatter: str, lines: list[str], absent: list[str]
) -> None:
    pytest.importorskip("datasets")
    outcome = ftcore("init", "--gpu", "none", "--data", rows("d.jsonl", row, row))
    assert outcome.code == 0, outcome.err
    assert f"read by the formatter {formatter}: " in outcome.out
    text = Path("config.toml").read_text(encoding="utf-8")
    assert f"# Its columns: {', '.join(row)}." in text
    for line in lines:
        assert line in text.splitlines()
    for line in absent:
        assert line not in text
    assert ftcore("check", "config.toml").code == 0


def test_columns_that_nobody_reads(ftcore: Any) -> None:
    pytest.importorskip("datasets")
    outcome = ftcore("init", "--gpu", "none", "--data", rows("d.jsonl", {"alpha": "1", "line\nend": "2"}))
    assert outcome.code == 0
    (warning,) = outcome.errors
    assert warning.startswith("warning: no formatter reads the columns")
    text = Path("config.toml").read_text(encoding="utf-8")
    assert '# question_column = "…"' in text.splitlines()
    assert "# Its columns: alpha, line�end." in text
    assert ftcore("check", "config.toml").code == 0


def test_a_file_that_is_there_stays(ftcore: Any) -> None:
    Path("config.toml").write_text("mine", encoding="utf-8")
    outcome = ftcore("init", "--gpu", "8gb")
    assert outcome.code == 2
    assert outcome.errors == ["error: config.toml is there already. Name another file with --output, or remove it"]
    assert Path("config.toml").read_text(encoding="utf-8") == "mine"


def test_a_model_and_a_file_of_ones_own(ftcore: Any, plugins: Any) -> None:
    pytest.importorskip("datasets")
    Path("jobs").mkdir()
    data = rows("d.jsonl", {"question": "q", "answer": "a"})
    model = 'a "quoted" model'
    assert ftcore("init", "--gpu", "8gb", "--data", data, "--model", model, "--output", "jobs/c.toml").code == 0
    settings = load_config(Path("jobs/c.toml"), plugins).fine_tuner
    assert settings.base_model_id == model
    assert settings.training_data_id == "../d.jsonl"  # a configuration's paths are looked up from its folder too


@pytest.mark.parametrize(
    ("arguments", "code", "start"),
    [
        (("--gpu", "2gb"), 2, "error: --gpu 2gb is too little for the smallest preset: it wants 4 GiB. "),
        (("--gpu", "lots"), 2, 'error: --gpu "lots" is no size of memory. '),
        ((), 2, "error: Missing option '--gpu'. "),
        (("--gpu", "8gb", "--output", "no/such/folder.toml"), 2, "error: no/such/folder.toml cannot be written: "),
        (("--gpu", "8gb", "--data", "missing.jsonl"), 4, "error: "),
        (("--gpu", "8gb", "--data", "nobody:data"), 3, "error: --data = \"nobody\" names no installed plugin"),
    ],
)  # fmt: skip
def test_errors_are_one_line_and_write_nothing(ftcore: Any, arguments: Any, code: int, start: str) -> None:
    outcome = ftcore("init", *arguments)
    assert outcome.code == code
    assert len(outcome.errors) == 1
    assert outcome.errors[0].startswith(start)
    assert not Path("config.toml").exists()


def test_commands_to_type_are_quoted(ftcore: Any) -> None:
    outcome = ftcore("init", "--gpu", "8 gb", "--output", "my config.toml")
    assert outcome.out.startswith(
        "my config.toml is written. Next: ftcore check 'my config.toml', ftcore estimate 'my config.toml' --gpu '8 gb'\n"
    )
    assert "ftcore run 'my config.toml' " in Path("my config.toml").read_text(encoding="utf-8")


def test_an_empty_model_is_refused(ftcore: Any) -> None:
    outcome = ftcore("init", "--gpu", "8gb", "--model", "")
    assert (outcome.code, outcome.errors) == (
        2,
        ["error: Invalid value for --model: it is empty (`ftcore init --help` explains)"],
    )
    assert not Path("config.toml").exists()
