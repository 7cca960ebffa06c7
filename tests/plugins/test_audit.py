"""The audit: what it finds in prepared data, what it says of it, and what stops a run.

Real files, the real formatter, tokenizer and trainer; the model's folder has no weights, so nothing here could load one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w

from ftcore.audit import gate as audit
from ftcore.audit.gate import Audit
from ftcore.config import load as load_config
from ftcore.errors import DataError, FailedAudit
from ftcore.run.ahead import prepare_ahead
from ftcore.testing.models import CHATML, SPECIAL_TOKENS, tiny_tokenizer

if TYPE_CHECKING:
    from ftcore.plugins import Plugins

pytest.importorskip("datasets", reason="prepared data are a datasets.Dataset")

Row = dict[str, str]
Audited = Callable[..., Audit]

GOOD = [{"question": f"What is {number} and 1?", "answer": f"It is {number + 1}."} for number in range(40)]
SETTINGS = {"load_in_4bit": False, "max_sequence_length": 128, "device_train_batch_size": 2, "grad_accumulation": 1}


def written(
    folder: Path,
    rows: Sequence[Row],
    validation: Sequence[Row] = (),
    template: str = CHATML,
    special_tokens: tuple[str, ...] = SPECIAL_TOKENS,
    bos: str | None = None,
    limits: dict[str, Any] | None = None,
    **settings: Any,
) -> Path:
    """A configuration with its data, and a model's folder with a tokenizer and no weights."""
    tokenizer = tiny_tokenizer(template, special_tokens)
    if bos:
        tokenizer.bos_token = bos
    tokenizer.save_pretrained(folder / "model")
    for name, data in (("train", rows), ("held_out", validation)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))
    given: dict[str, Any] = {"base_model_id": str(folder / "model"), "training_data_id": "train.jsonl"}
    given |= {"validation_data_id": "held_out.jsonl"} if validation else {}
    tables = {"fine_tuner": given | SETTINGS | settings, "audit": limits or {}, "run": {"output_dir": "runs"}}
    path = folder / "c.toml"
    path.write_text(tomli_w.dumps(tables))
    return path


@pytest.fixture
def audited(tmp_path: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> Audited:
    """Audits rows as a run would."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FTCORE_CACHE", str(tmp_path / "cache"))

    def examine(rows: Sequence[Row], validation: Sequence[Row] = (), **more: Any) -> Audit:
        written(tmp_path, rows, validation, **more)
        config = load_config(Path("c.toml"), plugins)
        ahead = prepare_ahead(config, plugins)
        return audit.examine(ahead.prepared, ahead.tokenizer, config)

    return examine


def lines(found: Audit) -> list[str]:
    return [f"{one.severity} {one.check}: {one}" for one in found.violations]


def test_good_data_have_nothing_wrong(audited: Audited) -> None:
    held_out = [{"question": f"What is {number} and 2?", "answer": f"It is {number + 2}."} for number in range(4)]
    found = audited(GOOD, held_out)
    assert lines(found) == []
    found.require_passed()
    assert found.counts()["audit"] == "passed"
    assert found.metrics()["data_rows"] == 40
    assert found.summary().startswith("40 rows, ")


def test_duplicates_and_overlap_are_told_and_pass(audited: Audited) -> None:
    found = audited([*GOOD, GOOD[7], GOOD[3]], [GOOD[5], {"question": "New?", "answer": "Yes."}])
    assert lines(found) == [
        "warning duplicates: 2 of 42 training examples equal an earlier one (row 40 is row 7, row 41 is row 3): "
        "they weigh more than the others. Remove them",
        "warning overlap: 1 of 2 validation examples are training examples too (validation row 0 is training row 5): "
        "the evaluation loss will look better than it is. Remove them from one of the two",
    ]
    found.require_passed()


def test_a_limit_of_0_allows_nothing(audited: Audited) -> None:
    found = audited([*GOOD, GOOD[7]], limits={"max_duplicates": 0.0})
    assert lines(found) == [
        "error duplicates: 1 of 41 training examples equal an earlier one (row 40 is row 7): they weigh more than the "
        "others; that is more than the share of 0 that [audit] max_duplicates allows. Remove them, or raise "
        "max_duplicates"
    ]
    with pytest.raises(DataError) as stopped:
        found.require_passed()
    assert not isinstance(stopped.value, FailedAudit)
    assert lines(audited([*GOOD, GOOD[7]], limits={"max_duplicates": 0.0, "ignore": ["duplicates"]})) == []


def test_rows_that_are_cut_are_named_with_what_they_lose(audited: Audited) -> None:
    cut = {"question": "Tell me all.", "answer": "All. " * 200}
    full = {"question": "Why? " * 200, "answer": "So."}
    found = audited([*GOOD, cut, full, *GOOD[:2]], limits={"ignore": ["duplicates", "length"]})
    longest = found.facts["longest_untruncated"]
    lost = found.statistics.training.lost_supervised
    assert longest > 128 < lost
    assert lines(found) == [
        "error cut_prompts: 1 of 44 training examples (row 41) teach nothing, because the prompt alone fills 128 tokens: "
        "that is more than the share of 0.01 that [audit] max_cut_prompts allows. Raise max_sequence_length (the longest "
        f"needs {longest}), or shorten or remove them, or raise max_cut_prompts; `ftcore preview c.toml --row 41` shows one",
        f"warning truncated: 2 of 44 training examples (rows 40, 41) are longer than 128 tokens and are cut: {lost:,} "
        f"tokens to learn are lost. Raise max_sequence_length (the longest needs {longest}), or shorten them; "
        "`ftcore preview c.toml --row 40` shows one",
    ]


def test_row_numbers_count_the_rows_that_were_skipped(audited: Audited) -> None:
    rows = [{"question": "", "answer": "x"}, *GOOD, {"question": "Tell me.", "answer": "All. " * 200}]
    found = audited(rows, limits={"max_bad_rows": 0.5, "ignore": ["length"]})
    assert [(one.check, one.rows) for one in found.violations] == [("bad_rows", (0,)), ("truncated", (41,))]
    assert lines(found)[0] == (
        'warning bad_rows: 1 of 42 training rows cannot be used and are skipped: row 0: "question" is empty. Mend them'
    )
    assert found.counts()["audit"].startswith(
        "passed with warnings: 1 of 42 training rows cannot be used and are skipped; "
    )


def test_everything_that_is_wrong_is_told_at_once(audited: Audited) -> None:
    bad = {"question": "", "answer": "x"}
    cut = {"question": "Tell me all.", "answer": "All. " * 200}
    found = audited([bad, *GOOD, *[cut] * 4], limits={"max_duplicates": 0.01, "ignore": ["length"]})
    assert [(one.severity, one.check) for one in found.violations] == [
        ("error", "bad_rows"),
        ("error", "truncated"),
        ("error", "duplicates"),
    ]
    with pytest.raises(FailedAudit) as stopped:
        found.require_passed()
    assert stopped.value.exit_code == 4
    assert len(str(stopped.value).splitlines()) == 3
    assert (
        '1 of 45 training rows cannot be used (row 0: "question" is empty): that is more than the share of 0.01'
        in str(stopped.value)
    )


def test_bad_validation_rows_are_judged_too(audited: Audited) -> None:
    held_out = [{"question": f"And {number}?", "answer": "Yes."} for number in range(3)]
    found = audited(GOOD, [{"question": "", "answer": "x"}, *held_out])
    (error,) = found.errors
    assert str(error).startswith(
        '1 of 4 validation rows cannot be used (row 0: "question" is empty): that is more than'
    )
    assert lines(audited(GOOD, held_out)) == []


def test_nothing_but_bad_rows(audited: Audited) -> None:
    bad = [{"question": "", "answer": "x"}] * 2
    for packing in (False, True):
        found = audited(bad, packing=packing)
        assert [(one.severity, one.check) for one in found.violations] == [("error", "bad_rows")]
    allowed = audited(bad, limits={"max_bad_rows": 1.0})
    assert [str(error) for error in allowed.errors] == [
        "the training data have no usable rows. Check the file, its columns and [audit] bad_rows"
    ]


def test_nothing_to_learn_is_told_alone_and_cannot_be_ignored(audited: Audited) -> None:
    every = {"ignore": ["truncated", "cut_prompts", "unsupervised", "unended", "supervised_share"]}
    found = audited([{"question": "W" * 400, "answer": "So."}] * 2, limits=every | {"max_duplicates": 1.0})
    assert [(one.severity, one.check) for one in found.violations] == [("error", "nothing")]
    error = str(found.errors[0])
    assert error.startswith("no token of the training data would be trained on: all 256 labels are masked; the first ")
    assert "where '<|im_start|>assistant\\n' was looked for. Raise max_sequence_length (the longest needs " in error


def test_answers_that_never_end_stop_the_run(audited: Audited) -> None:
    found = audited(GOOD, template=CHATML.replace("<|im_end|>", ""), train_on_responses_only=False)
    assert [(one.severity, one.check) for one in found.violations] == [("error", "unended")], lines(found)
    assert "and none teaches it: a model that does not learn it does not stop" in str(found.errors[0])
    assert "the token '<|im_end|>'" in str(found.errors[0])


def test_answers_that_end_where_the_model_does_not_stop(audited: Audited, tmp_path: Path) -> None:
    other_end = CHATML.replace("<|im_end|>", "<|endoftext|>")
    assert lines(audited(GOOD, template=other_end)) == []  # nobody knows where this model stops
    (tmp_path / "model" / "generation_config.json").write_text(json.dumps({"eos_token_id": 2}))
    assert lines(audited(GOOD, template=other_end)) == [
        "warning stop_token: answers end with '<|endoftext|>', at which the model does not stop: it stops at "
        "'<|im_end|>'. Choose a chat template that ends answers with that (chat_template), or change the tokenizer's EOS "
        "token"
    ]
    (tmp_path / "model" / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 0]}))
    assert lines(audited(GOOD, template=other_end)) == []
    assert lines(audited(GOOD)) == []


def test_two_bos_tokens_stop_the_run(audited: Audited) -> None:
    doubled = "{{ '<s><s>' }}" + CHATML
    special = ("<pad>", "<s>", "<|im_start|>", "<|im_end|>")
    found = audited(GOOD, template=doubled, special_tokens=special, bos="<s>")
    assert lines(found) == [
        "error double_bos: 40 of 40 training examples (rows 0, 1, 2, 3, 4 and 35 more) begin with two BOS tokens: the "
        "chat template writes one, and the text another; that is more than the share of 0 that [audit] max_double_bos "
        "allows. Take it out of the data or the template, or raise max_double_bos; `ftcore preview c.toml --row 0` shows one"
    ]
    assert lines(audited(GOOD, template=CHATML, special_tokens=special, bos="<s>")) == []


def test_shares_lengths_and_steps_that_nobody_means(audited: Audited) -> None:
    whole = lines(audited(GOOD[:10], max_sequence_length=64, limits={"max_supervised_share": 0.1}))
    assert len(whole) == 1
    assert "trained on, though train_on_responses_only is true. Check question_part" in whole[0]
    little = lines(audited(GOOD[:10], limits={"min_supervised_share": 0.9}))
    assert [line.partition(":")[0] for line in little] == ["warning supervised_share"]
    long = audited([*GOOD, {"question": "All?", "answer": "All. " * 300}], max_sequence_length=1024)
    (one,) = long.violations
    assert (one.check, one.severity, one.rows) == ("length", "warning", (40,))
    assert str(one).startswith("training row 40 has ")
    assert lines(audited(GOOD[:4], epochs=1, warmup_steps=5)) == [
        "warning warmup: the learning rate never gets to 0.0002: training takes 2 steps, and warmup_steps is 5. Lower "
        "warmup_steps, or raise epochs"
    ]


def test_validation_data_without_a_token_to_evaluate_stop_the_run(audited: Audited) -> None:
    full = {"question": "W" * 400, "answer": "So."}
    found = audited(GOOD, [full, full])
    assert [str(error) for error in found.errors] == [
        "no token of the validation data would be evaluated: all 256 labels are masked. Check the validation data's "
        "columns and max_sequence_length"
    ]
    some = audited(GOOD, [full, {"question": "New?", "answer": "Yes."}])
    assert lines(some) == [
        "warning truncated: 1 of 2 validation examples (row 0) are cut at 128 tokens. Raise max_sequence_length, or "
        "shorten them"
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FTCORE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_check_data_says_what_a_run_would_stop_for(folder: Path, ftcore: Any) -> None:
    written(folder, [*GOOD, GOOD[0], {"question": "Why? " * 200, "answer": "So."}], limits={"max_duplicates": 0.0})
    checked = ftcore("check", "c.toml", "--data")
    ran = ftcore("run", "c.toml", "--set", "run.name=r")
    assert (checked.code, ran.code) == (4, 4)
    errors = [line for line in checked.errors if line.startswith("error: ")]
    assert [line.split(" training")[0] for line in errors] == ["error: 1 of 42", "error: 1 of 42"]
    assert errors == [line for line in ran.errors if line.startswith("error: ")]
    assert "data: 42 rows, " in checked.out
    assert "pass" not in checked.out
    saved = json.loads((folder / "runs" / "r" / "audit.json").read_text())
    assert not saved["passed"]
    assert [one["check"] for one in saved["violations"] if one["severity"] == "error"] == ["cut_prompts", "duplicates"]
    assert json.loads((folder / "runs" / "r" / "manifest.json").read_text())["status"] == "failed"


def test_a_run_with_bad_rows_tells_everything_else_too(folder: Path, ftcore: Any) -> None:
    bad = {"question": "", "answer": "x"}
    cut = {"question": "Tell me all.", "answer": "All. " * 200}
    written(folder, [bad, *GOOD, *[cut] * 4], limits={"max_duplicates": 0.01, "ignore": ["length"], "bad_rows": "stop"})
    ran, checked = ftcore("run", "c.toml"), ftcore("check", "c.toml", "--data")
    assert (ran.code, checked.code) == (4, 4)
    errors = [line for line in ran.errors if line.startswith("error: ")]
    assert errors == [line for line in checked.errors if line.startswith("error: ")]
    assert [line.split(" rows")[0].split(" examples")[0] for line in errors] == [
        "error: 1 of 45 training",
        "error: 4 of 44 training",
        "error: 3 of 44 training",
    ]


def test_check_data_of_good_data(folder: Path, ftcore: Any) -> None:
    written(folder, [*GOOD, GOOD[0]])
    checked = ftcore("check", "c.toml", "--data")
    assert checked.code == 0
    assert checked.out.splitlines()[1].startswith("data: 41 rows, ")
    assert checked.out.endswith("the data pass the audit, with the warnings above\n")
    assert [line.partition(" (")[0] for line in checked.errors] == [
        "warning: 1 of 41 training examples equal an earlier one"
    ]
    assert not (folder / "runs").exists()
