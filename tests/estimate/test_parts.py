"""The parts of an estimate that need no model."""

from __future__ import annotations

from typing import Any

import pytest

from ftcore.contracts import BatchShape
from ftcore.errors import ConfigError
from ftcore.estimate import presets
from ftcore.estimate.batch import longest_possible
from ftcore.estimate.heap import Heap
from ftcore.estimate.known import architecture
from ftcore.estimate.optimizers import state_bytes, step_bytes
from ftcore.estimate.target import gpu, weights_dtype
from ftcore.settings.model import ModelSettings

GIB = 2**30


@pytest.mark.parametrize(
    ("text", "size"),
    [("8gb", 8 * GIB), ("8", 8 * GIB), (" 12 GiB ", 12 * GIB), ("7.5G", 15 * GIB // 2), ("none", 0), ("NONE", 0)],
)
def test_sizes_of_memory(text: str, size: int) -> None:
    assert presets.memory(text) == size


@pytest.mark.parametrize("text", ["", "big", "-4gb", "0", "8mb", "8 gb gb", "1e3"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ConfigError, match="is no size of memory"):
        presets.memory(text)


@pytest.mark.parametrize(("gib", "fits"), [(3, None), (4, 4), (6, 4), (8, 8), (11, 8), (12, 12), (80, 12)])
def test_the_largest_preset_that_fits(gib: int, fits: int | None) -> None:
    preset = presets.fitting(gib * GIB)
    assert (preset.gib if preset else None) == fits


def test_every_recommended_model_is_known() -> None:
    names = [preset.base_model_id for preset in (*presets.PRESETS, presets.WITHOUT_GPU)] + [*presets.SMALLER_MODELS]
    for name in names:
        values = architecture(name)
        assert values is not None, name
        assert ("quantization_config" in values) == name.endswith("-bnb-4bit")
    assert architecture("somebody/Qwen2.5-0.5B-Instruct") is None


@pytest.mark.parametrize(
    ("optimizer", "width", "size"),
    [
        ("adamw_torch", 4, 2 * 4 * 8192),
        ("adamw_torch", 2, 2 * 2 * 8192),  # torch's states have the parameter's type
        ("paged_adamw_32bit", 2, 2 * 4 * 8192),
        ("paged_adamw_8bit", 2, 2 * (8192 + 4 * 32)),
        ("lion_8bit", 4, 8192 + 4 * 32),
        ("ademamix", 2, 3 * 4 * 8192),
        ("sgd", 4, 0),
        ("adafactor", 4, 4 * (64 + 128)),
    ],
)
def test_optimizer_states(optimizer: str, width: int, size: int) -> None:
    assert state_bytes(optimizer, [((64, 128), width)]) == size


def test_small_tensors_keep_32_bit_states() -> None:
    assert state_bytes("adamw_8bit", [((16,), 4)]) == 2 * 4 * 16
    assert state_bytes("adafactor", [((16,), 4)]) == 4 * 16


def test_an_optimizer_step_copies_all_tensors_on_a_gpu_and_one_on_a_cpu() -> None:
    tensors = [((100,), 4), ((300,), 4)]
    assert step_bytes("adamw_torch", tensors, on_gpu=True) == 1600
    assert step_bytes("adamw_torch", tensors, on_gpu=False) == 2400
    assert step_bytes("adamw_8bit", tensors, on_gpu=True) == 2400
    assert step_bytes("adamw_torch", [], on_gpu=True) == 0


def test_the_largest_batch() -> None:
    assert longest_possible(1, 128) == BatchShape(1, 128, 127, padded=False)
    assert longest_possible(4, 128) == BatchShape(4, 128, 508, padded=True)


def test_the_type_of_the_weights() -> None:
    target = gpu(8 * GIB)
    assert weights_dtype(ModelSettings(base_model_id="m"), target) == "bfloat16"
    assert weights_dtype(ModelSettings(base_model_id="m", full_finetuning=True), target) == "float32"
    assert weights_dtype(ModelSettings(base_model_id="m", dtype="float16"), target) == "float16"


def test_the_heap_gives_large_blocks_back() -> None:
    heap = Heap()
    for _ in range(100):
        heap.free(heap.allocate(64 * 2**20))
    assert 64 * 2**20 <= heap.highest < 65 * 2**20


def test_the_heap_reuses_what_is_freed() -> None:
    heap = Heap()

    def held_after(times: int) -> int:
        for _ in range(times):
            heap.free(heap.allocate(2**20))
        return heap.highest

    # Small objects settle between the first blocks, until there are as many as can be.
    assert held_after(500) == pytest.approx(held_after(2000), rel=0.05)
    assert heap.highest < 110 * 2**20


def test_kept_blocks_between_freed_ones_leave_holes() -> None:
    def held(kept: bool) -> int:
        heap = Heap()
        keeps = [heap.allocate(2**14) for _ in range(200)]
        for layer in range(200):
            scratch: list[Any] = [heap.allocate(2**20) for _ in range(4)]
            if not kept:
                heap.free(keeps.pop())
            heap.allocate(2**14)
            for block in scratch:
                heap.free(block)
            assert heap.highest >= 200 * 2**14 + (layer > 0) * 4 * 2**20
        return heap.highest

    live = 4 * 2**20 + 400 * 2**14
    assert held(kept=True) > 2 * live


def test_the_heap_is_the_same_every_time() -> None:
    def held() -> int:
        heap = Heap()
        for size in range(1, 500):
            place = heap.allocate(size * 1000)
            if size % 3:
                heap.free(place)
        return heap.highest

    assert held() == held()
