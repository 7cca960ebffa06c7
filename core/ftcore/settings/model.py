"""Which model, in which precision, and how it computes."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ftcore.settings.base import Section


class ModelSettings(Section):
    """The model keys of `[fine_tuner]`."""

    may_change: ClassVar = frozenset({"use_gradient_checkpointing"})

    base_model_id: Annotated[str, Field(min_length=1, max_length=4096)]
    """The model to start from: a Hugging Face model id, a local folder, a GGUF file, or `prefix:locator` for a plugin."""

    max_sequence_length: Annotated[int, Field(ge=8, le=10_000_000)] = 4096
    """The longest training example, in tokens. Longer ones are cut at the end, and the run says how many."""

    dtype: Literal["float16", "bfloat16", "float32"] | None = None
    """The type of the model's weights. Null chooses: bfloat16 where the device computes in it, else float16 on a GPU and float32 on a CPU; full fine-tuning keeps float32 weights."""

    load_in_4bit: bool = True
    """Quantize the frozen weights to 4 bits (bitsandbytes NF4). The default gives way where `load_in_8bit` or `full_finetuning` is set, and on a machine without a GPU, where the run says so."""

    load_in_8bit: bool = False
    """Quantize the frozen weights to 8 bits (bitsandbytes LLM.int8)."""

    full_finetuning: bool = False
    """Train all weights instead of a LoRA adapter."""

    use_gradient_checkpointing: bool | Literal["unsloth"] = "unsloth"
    """Compute activations again in the backward pass instead of keeping them: less memory, more time. `"unsloth"` is unsloth's variant; with another loader it means true."""

    use_flash_attention: bool = True
    """Use a fused attention kernel: flash-attn where it is installed and the GPU takes it, else torch's scaled dot product attention. False computes attention step by step (`eager`)."""

    chat_template: str | None = None
    """A chat template for a tokenizer that has none, or to replace the one it has: `"alpaca"`, `"chatml"`, `"gemma"`, `"llama2"`, `"llama3"`, `"mistral"`, `"phi3"`, `"zephyr"`, or the path of a Jinja file (a relative one also from the configuration's folder). The token that ends a turn in a named template becomes the EOS token. Null keeps the tokenizer's own; a tokenizer without one is then an error."""

    trust_remote_code: bool = False
    """Run Python code that comes with the model. Leave it off unless you have read that code."""

    def quantization(self) -> Literal["4bit", "8bit"] | None:
        """The quantization in force."""
        if self.load_in_8bit:
            return "8bit"
        return "4bit" if self.load_in_4bit else None
