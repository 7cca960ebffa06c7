"""The families of instruct models: the shape of each one's template, with a tokenizer that has its special tokens, its
kind of vocabulary and its habit with BOS, and a reading of the template by hand that knows nothing of markers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from sft_parts import Pieces

from ftcore import templates
from ftcore.contracts import Conversation

_FOLDER = Path(__file__).parents[1] / "templates"
_TEXT = (
    "Which question shall the assistant answer? The user asks how many apples there are, and the system says: be short.",
    "There are 3 apples and 4 pears, so there are 3 + 4 = 7 fruits in all. Thank you for asking, and good night.",
    "Instruction and response. [INST] [/INST] <<SYS>> <</SYS>> Be kind. Be brief. You help people. <think> </think>",
    "One.\n\nTwo.\n\n\nThree.\n\n\n\nFour.\n\n\n\n\nFive.\n\n",
)


_WORDS = r"\s*[\r\n]+|\s+(?!\S)| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+"
"""Line breaks stay together, digits apart, and a space belongs to the word behind it."""


@dataclass(frozen=True)
class Family:
    """A family.

    Attributes:
        template: a built-in template's name, or one of `tests/templates`.
        read: its reading by hand.
        vocabulary: "bytes" as Llama 3 and Qwen have it, or "words" with the space at a word's beginning and bytes for
            what it does not know, as Llama 2 and Gemma do.
        bos, eos, pad: those special tokens; None if there is none.
        others: more special tokens.
        adds_bos: whether the tokenizer writes BOS before plain text.
        end: the token that ends a turn.
        system: whether it takes a system prompt.
    """

    template: str
    read: Callable[[Conversation], Pieces]
    vocabulary: Literal["bytes", "words"]
    bos: str | None
    eos: str
    pad: str | None
    others: tuple[str, ...]
    adds_bos: bool
    end: str
    system: bool = True

    @property
    def tokenizer(self) -> Any:
        return tokenizer_of(self)


def text_of(template: str) -> str:
    path = _FOLDER / f"{template}.jinja"
    return path.read_text() if path.exists() else templates.source(template.removeprefix("built-in "))


@cache
def tokenizer_of(family: Family) -> Any:
    """A tokenizer of about 700 tokens."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = list(dict.fromkeys(token for token in (family.pad, family.bos, family.eos, *family.others) if token))
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if family.vocabulary == "bytes" else [],
        show_progress=False,
    )
    bare = Tokenizer(models.BPE())
    if family.vocabulary == "bytes":
        bare.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_WORDS), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        bare.decoder = decoders.ByteLevel()
        bare.train_from_iterator(_TEXT, trainer)
    else:
        bare.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Metaspace(prepend_scheme="first"), pre_tokenizers.Split("\n", "isolated")]
        )
        bare.train_from_iterator(_TEXT, trainer)
        bare = _with_bytes(bare)
        bare.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    bare.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    if family.adds_bos:
        first = family.bos or ""
        bare.post_processor = processors.TemplateProcessing(
            single=f"{first} $A", special_tokens=[(first, bare.token_to_id(first))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=bare,
        bos_token=family.bos,
        eos_token=family.eos,
        pad_token=family.pad,
        additional_special_tokens=list(family.others),
        model_max_length=2048,
        chat_template=text_of(family.template),
    )


def _with_bytes(bare: Any) -> Any:
    """The tokenizer with a token for each byte, to which it falls back."""
    from tokenizers import Tokenizer

    whole = json.loads(bare.to_str())
    vocabulary = whole["model"]["vocab"]
    for byte in range(256):
        vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
    whole["model"]["byte_fallback"] = True
    return Tokenizer.from_str(json.dumps(whole))


def _spoken(conversation: Conversation) -> tuple[str | None, Conversation]:
    if conversation[0]["role"] == "system":
        return conversation[0]["content"], conversation[1:]
    return None, conversation


def _tagged(opener: str, closer: str, tail: str, *, trims: bool = False, model: str = "assistant") -> Any:
    """Turns with the role in a tag; `{}` in the opener stands for it."""

    def read(conversation: Conversation) -> Pieces:
        pieces: Pieces = []
        for turn in conversation:
            text = turn["content"].strip() if trims else turn["content"]
            role = model if turn["role"] == "assistant" else turn["role"]
            pieces += [(opener.format(role), False), (text + closer, turn["role"] == "assistant"), (tail, False)]
        return pieces

    return read


_chatml = _tagged("<|im_start|>{}\n", "<|im_end|>", "\n")


def _behind(first: str, read: Any) -> Any:
    return lambda conversation: [(first, False), *read(conversation)]


def _with_default(default: str) -> Any:
    def read(conversation: Conversation) -> Pieces:
        given, spoken = _spoken(conversation)
        return _chatml([{"role": "system", "content": default if given is None else given}, *spoken])  # type: ignore[no-any-return]

    return read


def _merged(system: str, question: str, answer: str, *, first: str = "", last: bool = False, trims: bool = True) -> Any:
    """The system prompt in the first question (or the last), `{}` in each shape for the text. An answer's shape has a
    bar where it begins."""
    before, begin = answer.split("|")

    def read(conversation: Conversation) -> Pieces:
        given, spoken = _spoken(conversation)
        place = len(spoken) - 2 if last else 0
        pieces: Pieces = [(first, False)]
        for number, turn in enumerate(spoken):
            text = turn["content"].strip() if trims else turn["content"]
            if turn["role"] == "user":
                prompt = system.format(given) if given is not None and number == place else ""
                pieces.append((question.format((prompt + text).strip() if trims else prompt + text), False))
            else:
                pieces += [(before, False), (begin.format(text), True)]
        return pieces

    return read


def _filled(read: Any) -> Any:
    """An empty system prompt is left out."""
    return lambda conversation: read([turn for turn in conversation if turn["role"] != "system" or turn["content"]])


def _llama2_strict(conversation: Conversation) -> Pieces:
    return _merged("<<SYS>>\n{}\n<</SYS>>\n\n", "<s>[INST] {} [/INST]", "| {} </s>")(conversation)  # type: ignore[no-any-return]


def _phi3(conversation: Conversation) -> Pieces:
    return [*_tagged("<|{}|>\n", "<|end|>", "\n")(conversation), ("<|endoftext|>", False)]


def _qwen3(conversation: Conversation) -> Pieces:
    asked = max(number for number, turn in enumerate(conversation) if turn["role"] == "user")
    pieces: Pieces = []
    for number, turn in enumerate(conversation):
        if turn["role"] == "assistant":
            thought, _, said = turn["content"].rpartition("</think>")
            kept = f"<think>\n{thought.removeprefix('<think>').strip()}\n</think>\n\n" if number > asked else ""
            said = said.lstrip("\n")
            pieces += [("<|im_start|>assistant\n", False), (f"{kept}{said}<|im_end|>", True), ("\n", False)]
        else:
            pieces += _chatml([turn])
    return pieces


def _deepseek(conversation: Conversation) -> Pieces:
    given, spoken = _spoken(conversation)
    pieces: Pieces = [("<｜begin▁of▁sentence｜>" + (given or ""), False)]
    for turn in spoken:
        if turn["role"] == "user":
            pieces.append((f"<｜User｜>{turn['content']}", False))
        else:
            said = turn["content"].rpartition("</think>")[2]
            pieces += [("<｜Assistant｜>", False), (f"{said}<｜end▁of▁sentence｜>", True)]
    return pieces


def _alpaca(conversation: Conversation) -> Pieces:
    given, spoken = _spoken(conversation)
    pieces: Pieces = [(given.strip() + "\n\n" if given and given.strip() else "", False)]
    for turn in spoken:
        text = turn["content"].strip()
        if turn["role"] == "user":
            pieces.append((f"### Instruction:\n{text}\n\n", False))
        else:
            pieces += [("### Response:\n", False), (f"{text}</s>", True), ("\n\n", False)]
    return pieces


_LLAMA3 = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|finetune_right_pad_id|>")
_GEMMA = ("<start_of_turn>", "<end_of_turn>")
_PHI3 = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
_QWEN = ("<|im_start|>", "<|im_end|>")
_DEEPSEEK = ("<｜User｜>", "<｜Assistant｜>")
_llama3 = _behind(
    "<|begin_of_text|>", _tagged("<|start_header_id|>{}<|end_header_id|>\n\n", "<|eot_id|>", "", trims=True)
)
_gemma = _tagged("<start_of_turn>{}\n", "<end_of_turn>", "\n", trims=True, model="model")
_gemma_system = _merged(
    "{}\n\n", "<start_of_turn>user\n{}<end_of_turn>\n", "<start_of_turn>model\n|{}<end_of_turn>", first="<bos>"
)


def _with_tails(read: Any, tail: str) -> Any:
    return lambda conversation: [
        part for piece in read(conversation) for part in ([piece, (tail, False)] if piece[1] else [piece])
    ]


FAMILIES = {
    "chatml": Family(
        "built-in chatml", _chatml, "bytes", None, "<|im_end|>", "<|endoftext|>", _QWEN, False, "<|im_end|>"
    ),
    "qwen2_5": Family(
        "qwen2_5",
        _with_default("You help people."),
        "bytes",
        None,
        "<|im_end|>",
        "<|endoftext|>",
        _QWEN,
        False,
        "<|im_end|>",
    ),
    "qwen3": Family("qwen3", _qwen3, "bytes", None, "<|im_end|>", "<|endoftext|>", _QWEN, False, "<|im_end|>"),
    "smollm": Family(
        "smollm",
        _with_default("You are a small assistant."),
        "bytes",
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
        ("<|endoftext|>",),
        False,
        "<|im_end|>",
    ),
    "llama2": Family("llama2", _llama2_strict, "words", "<s>", "</s>", None, ("<unk>",), True, "</s>"),
    "llama2 built-in": Family(
        "built-in llama2", _filled(_llama2_strict), "words", "<s>", "</s>", None, ("<unk>",), True, "</s>"
    ),
    "llama3": Family(
        "built-in llama3", _llama3, "bytes", "<|begin_of_text|>", "<|eot_id|>", None, _LLAMA3, True, "<|eot_id|>"
    ),
    "mistral": Family(
        "mistral",
        _merged("{}\n\n", "[INST] {}[/INST]", "| {}</s>", first="<s>", last=True, trims=False),
        "words",
        "<s>",
        "</s>",
        None,
        ("<unk>",),
        True,
        "</s>",
    ),
    "mistral with tokens": Family(
        "mistral",
        _merged("{}\n\n", "[INST] {}[/INST]", "| {}</s>", first="<s>", last=True, trims=False),
        "bytes",
        "<s>",
        "</s>",
        "<pad>",
        ("<unk>", "[INST]", "[/INST]"),
        True,
        "</s>",
    ),
    "mistral built-in": Family(
        "built-in mistral",
        _filled(_merged("{}\n\n", "[INST] {} [/INST]", "| {}</s>", first="<s>")),
        "words",
        "<s>",
        "</s>",
        None,
        ("<unk>",),
        True,
        "</s>",
    ),
    "gemma": Family(
        "gemma",
        _behind("<bos>", _gemma),
        "words",
        "<bos>",
        "<eos>",
        "<pad>",
        _GEMMA,
        True,
        "<end_of_turn>",
        system=False,
    ),
    "gemma built-in": Family(
        "built-in gemma",
        _filled(_with_tails(_gemma_system, "\n")),
        "words",
        "<bos>",
        "<eos>",
        "<pad>",
        _GEMMA,
        True,
        "<end_of_turn>",
    ),
    "phi3": Family("phi3", _phi3, "words", "<s>", "<|endoftext|>", "<|endoftext|>", _PHI3, False, "<|end|>"),
    "zephyr": Family(
        "built-in zephyr", _tagged("<|{}|>\n", "</s>", "\n"), "words", "<s>", "</s>", "</s>", ("<unk>",), True, "</s>"
    ),
    "deepseek": Family(
        "deepseek",
        _deepseek,
        "bytes",
        "<｜begin▁of▁sentence｜>",
        "<｜end▁of▁sentence｜>",
        "<｜▁pad▁｜>",
        _DEEPSEEK,
        True,
        "<｜end▁of▁sentence｜>",
    ),
    "alpaca": Family("built-in alpaca", _alpaca, "words", "<s>", "</s>", None, ("<unk>",), True, "</s>"),
}
