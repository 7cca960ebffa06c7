"""The unsloth loader on a GPU, with unsloth's own kernels."""

from __future__ import annotations

from pathlib import Path

import pytest
from jobs import Jobs, Outcome

pytestmark = [pytest.mark.gpu, pytest.mark.slow, pytest.mark.xdist_group("gpu")]

JOBS = {
    "bfloat16": {"dtype": "bfloat16"},
    "4bit": {"dtype": "null", "load_in_4bit": True},
    "8bit": {"dtype": "null", "load_in_8bit": True},
    "full": {"dtype": "null", "full_finetuning": True, "learning_rate": 0.001},
    "dropout": {"dtype": "bfloat16", "lora_dropout": 0.1},
    "unsloth_checkpointing": {"dtype": "bfloat16", "use_gradient_checkpointing": "unsloth"},
    "own_checkpointing": {"dtype": "bfloat16", "use_gradient_checkpointing": True},
    "packing": {"dtype": "bfloat16", "packing": True},
    "paged": {"dtype": "bfloat16", "optimizer": "paged_adamw_8bit"},
    "eager": {"dtype": "bfloat16", "use_flash_attention": False},
}


@pytest.fixture(scope="module")
def outcomes(cuda: str, tmp_path_factory: pytest.TempPathFactory, unsloth_python: Path) -> dict[str, Outcome]:
    jobs = Jobs(tmp_path_factory.mktemp("unsloth-gpu"), unsloth_python, on_gpu=True)
    return jobs.run({name: {"base_model_id": "large", "learning_rate": 0.003, **own} for name, own in JOBS.items()})


@pytest.mark.parametrize("name", JOBS)
def test_it_trains(outcomes: dict[str, Outcome], name: str) -> None:
    losses = outcomes[name].losses
    assert losses[-1] < losses[0]
    assert "on cuda" in outcomes[name].said


def test_weights_are_of_the_configured_kind(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["bfloat16"]["dtype"] == "torch.bfloat16"
    assert outcomes["4bit"]["weight"] == "Linear4bit"
    assert outcomes["8bit"]["weight"] == "Linear8bitLt"
    assert outcomes["full"]["trained"] == ["torch.float32"]


def test_packed_examples_stay_apart(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["packing"].losses[0] == pytest.approx(outcomes["bfloat16"].losses[0], rel=0.1)


def test_gradient_checkpointing_computes_activations_again(outcomes: dict[str, Outcome]) -> None:
    names = ("bfloat16", "own_checkpointing", "unsloth_checkpointing")
    assert [outcomes[name]["computations"] for name in names] == [1, 2, 2]


def test_optimizers_with_pages_run(outcomes: dict[str, Outcome]) -> None:
    assert (outcomes["paged"]["optim"], outcomes["paged"]["optimizer"]) == ("paged_adamw_8bit", "bitsandbytes")


def test_what_has_no_effect_is_said(outcomes: dict[str, Outcome]) -> None:
    assert "use_flash_attention = false has no effect" in outcomes["eager"].said
