"""Nothing is sent anywhere that the configuration does not name."""

from __future__ import annotations

import os

OFF = {
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, and through it transformers, datasets, TRL and PEFT
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
    "UNSLOTH_DISABLE_STATISTICS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""The variables by which libraries under ftcore are told not to report their use."""


def switch_off() -> None:
    """Set `OFF` for this process and its children; a variable that the user has set, to whatever, is left alone.

    Most of the libraries read their variable when they are imported, so this comes first.
    """
    for name, value in OFF.items():
        os.environ.setdefault(name, value)
