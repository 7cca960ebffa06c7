"""Chat templates that are chosen: named ones and files, the tokens that they need, and what is saved."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ftcore import templates
from ftcore.errors import ModelError, SaveError
from ftcore.run import reloaded
from ftcore.run.trained import TrainedModel
from ftcore.settings.model import ModelSettings
from ftcore.tokenizer import sane_tokenizer

if TYPE_CHECKING:
    from conftest import Ftcore

pytest.importorskip("transformers", reason="training needs the extra [train]")
sys.path.insert(0, str(Path(__file__).parent / "plugins"))

from families import FAMILIES, Family, tokenizer_of

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]


class Listener:
    """As much of `ftcore.contracts.Run` as settling a tokenizer needs."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)


@pytest.fixture
def listener() -> Listener:
    return Listener()


def base(family: str, **changes: Any) -> Any:
    """A family's tokenizer as its base model has it: without a template, ending with a token of its own."""
    values = {**vars(FAMILIES[family]), **changes}
    tokenizer = tokenizer_of.__wrapped__(Family(**values))
    tokenizer.chat_template = None
    return tokenizer


def settled(tokenizer: Any, listener: Any, chosen: str | None) -> Any:
    return sane_tokenizer(tokenizer, ModelSettings(base_model_id="base", chat_template=chosen), listener)


def rendered(tokenizer: Any) -> str:
    return str(tokenizer.apply_chat_template(TURNS, tokenize=False))


def test_each_file_is_a_template_and_each_template_a_file() -> None:
    files = {path.stem for path in Path(templates.__file__).parent.glob("*.jinja")}
    assert files == set(templates.TEMPLATES)


def test_a_base_model_gets_no_template_that_was_not_chosen(listener: Listener) -> None:
    with pytest.raises(ModelError) as refused:
        settled(base("llama3"), listener, None)
    assert refused.value.what == "the tokenizer of base has no chat template"
    assert "(alpaca, llama2, llama3, mistral, zephyr)" in refused.value.fix


def test_the_token_that_ends_a_turn_becomes_the_eos(listener: Listener) -> None:
    tokenizer = settled(base("chatml", eos="<|endoftext|>"), listener, "chatml")
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert listener.said == ["template   chatml: <|im_end|> ends a turn and is the EOS token now, not <|endoftext|>"]
    assert rendered(tokenizer) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo<|im_end|>\n"


@pytest.mark.parametrize("name", templates.TEMPLATES)
def test_a_template_is_refused_where_its_tokens_are_missing(name: str, listener: Listener) -> None:
    needs = {need for need in (*templates.TEMPLATES[name].needs, templates.TEMPLATES[name].end) if need.startswith("<")}
    tokenizer = base("phi3" if name != "phi3" else "chatml", bos="<s>", eos="</s>", pad="<unk>")
    if not needs:
        settled(tokenizer, listener, name)
        return
    with pytest.raises(ModelError) as refused:
        settled(tokenizer, listener, name)
    assert refused.value.what.startswith(f'chat_template = "{name}" needs what the tokenizer lacks: ')
    assert all(need in refused.value.what for need in needs)
    assert "alpaca" in refused.value.fix


def test_bos_is_written_where_the_model_has_always_seen_it(listener: Listener) -> None:
    with_bos = settled(base("zephyr"), listener, "zephyr")
    assert rendered(with_bos) == "<s><|user|>\nHi</s>\n<|assistant|>\nHo</s>\n"
    assert with_bos(rendered(with_bos), add_special_tokens=False)["input_ids"].count(with_bos.bos_token_id) == 1
    without = settled(base("zephyr", adds_bos=False), listener, "zephyr")
    assert rendered(without) == "<|user|>\nHi</s>\n<|assistant|>\nHo</s>\n"


def test_a_file_is_used_and_tokens_that_it_invents_are_said(tmp_path: Path, listener: Listener) -> None:
    file = tmp_path / "own.jinja"
    file.write_text("{% for m in messages %}<|turn|>{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}")
    assert rendered(settled(base("zephyr"), listener, str(file))) == "<|turn|>user: Hi</s><|turn|>assistant: Ho</s>"
    assert listener.warned == [
        "the chat template writes <|turn|>, and the tokenizer has no such token: each is split into pieces, as "
        "ordinary text is"
    ]


@pytest.mark.parametrize(
    ("text", "what", "why"),
    [
        ("{% for m in messages %}", "is not a Jinja template", "line 1: "),
        ("Hello {{ bos_token }}", "leaves out what is said", "becomes 'Hello <s>'"),
        ("{{ raise_exception('never') }}", "cannot write a question with its answer", "never"),
    ],
)
def test_a_file_that_cannot_be_used(text: str, what: str, why: str, tmp_path: Path, listener: Listener) -> None:
    file = tmp_path / "own.jinja"
    file.write_text(text)
    with pytest.raises(ModelError) as refused:
        settled(base("zephyr"), listener, str(file))
    assert refused.value.what == f'chat_template = "{file}" {what}'
    assert why in refused.value.why


def test_one_of_several_templates_is_not_chosen_in_silence(listener: Listener) -> None:
    tokenizer = base("chatml")
    text = FAMILIES["chatml"].tokenizer.chat_template
    tokenizer.chat_template = {"tool_use": text, "rag": "no"}
    assert settled(tokenizer, listener, None).chat_template == text
    assert listener.warned == ["the tokenizer has the chat templates tool_use, rag and no default: tool_use is used"]


def test_check_finds_a_template_that_is_not_there(
    tmp_path: Path, ftcore: Ftcore, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d.jsonl").write_text('{"question": "a", "answer": "b"}\n')
    config = tmp_path / "config.toml"

    def errors(chosen: str) -> list[str]:
        config.write_text(
            f'[fine_tuner]\nbase_model_id = "m"\ntraining_data_id = "{tmp_path / "d.jsonl"}"\nchat_template = "{chosen}"\n'
        )
        return [line for line in ftcore("check", str(config)).errors if "chat_template" in line]

    monkeypatch.chdir("/")
    assert errors("chatml") == []
    (wrong,) = errors("chat-ml")
    assert wrong.endswith('chat_template = "chat-ml" is neither a built-in template nor a file. Did you mean chatml?')
    assert ":4: " in wrong
    (missing,) = errors("my.jinja")
    assert missing.endswith("Name one of alpaca, chatml, gemma, llama2, llama3, mistral, phi3, zephyr, or a Jinja file")
    (tmp_path / "my.jinja").write_text("{{ messages }}")
    assert errors("my.jinja") == [], "it is found beside the configuration"
    assert templates.located("my.jinja", tmp_path) == str(tmp_path / "my.jinja")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_saved_tokenizer_writes_the_same(name: str, tmp_path: Path) -> None:
    tokenizer = FAMILIES[name].tokenizer
    tokenizer.save_pretrained(str(tmp_path))
    assert reloaded.difference(tokenizer, tmp_path) is None


def other_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")


def no_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def other_eos(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token": "<|endoftext|>"}))


def other_tokens(folder: Path) -> None:
    path = folder / "tokenizer.json"
    whole = json.loads(path.read_text())
    whole["model"]["merges"] = []
    path.write_text(json.dumps(whole))


def not_there(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (other_template, "where it wrote '<|im_start|>user\\nOne"),
        (no_template, "where it wrote"),
        (other_eos, "its eos_token is <|endoftext|>, and was <|im_end|>"),
        (other_tokens, "' is now "),
        (not_there, "it cannot be loaded: "),
    ],
)
def test_a_saved_tokenizer_that_writes_something_else_is_noticed(
    change: Callable[[Path], None], found: str, tmp_path: Path
) -> None:
    tokenizer = FAMILIES["chatml"].tokenizer
    tokenizer.save_pretrained(str(tmp_path / "saved"))
    change(tmp_path / "saved")
    assert found in (reloaded.difference(tokenizer, tmp_path / "saved") or "")


class Weights:
    """A model of no weights, which saving does not look at here."""

    def save_pretrained(self, folder: str) -> None:
        (Path(folder) / "model.safetensors").write_bytes(b"weights")


def test_an_export_whose_tokenizer_differs_is_an_error_that_loses_nothing(tmp_path: Path) -> None:
    tokenizer = base("chatml")
    tokenizer.chat_template = FAMILIES["chatml"].tokenizer.chat_template

    class Forgetful(type(tokenizer)):  # type: ignore[misc]
        def save_pretrained(self, folder: str) -> Any:
            files = super().save_pretrained(folder)
            other_template(Path(folder))
            return files

    tokenizer.__class__ = Forgetful
    model = TrainedModel(Weights(), tokenizer, "base", {}, lambda: "card")
    with pytest.raises(SaveError) as failed:
        model.export(tmp_path / "model")
    assert failed.value.what.endswith("does not write conversations as in training")
    assert (tmp_path / "model" / "model.safetensors").exists()


def test_an_eos_is_never_saved_as_padding(tmp_path: Path) -> None:
    tokenizer = base("smollm")
    tokenizer.chat_template = FAMILIES["smollm"].tokenizer.chat_template
    assert tokenizer.pad_token == tokenizer.eos_token
    TrainedModel(Weights(), tokenizer, "base", {}, lambda: "card").export(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "tokenizer_config.json").read_text()).get("pad_token") is None
    assert tokenizer.pad_token == "<|im_end|>", "in training it still pads"
