"""LoRA layers that lose nothing of what the adapter learned: `install(model)`.

`product` is the function, `weights` reads what it multiplies with, `layers` puts it into a model, and `unsloth_kernels`
into unsloth's fused ones.
"""

from __future__ import annotations

from ftcore_sft.lora.layers import Report, install, remove

__all__ = ["Report", "install", "remove"]
