"""The flat `[fine_tuner]` section, composed of one model per concern."""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from ftcore.settings.data import DataSettings
from ftcore.settings.logging import LoggingSettings
from ftcore.settings.lora import LoraSettings
from ftcore.settings.model import ModelSettings
from ftcore.settings.saving import SavingSettings
from ftcore.settings.training import TrainingSettings


class FineTunerSettings(SavingSettings, LoggingSettings, TrainingSettings, DataSettings, LoraSettings, ModelSettings):
    """The fine-tuning job: model, adapter, data, training, logging, saving."""

    @model_validator(mode="before")
    @classmethod
    def _default_quantization(cls, data: Any) -> Any:
        # 4-bit is only a default: what excludes it replaces it without having to say so twice.
        if isinstance(data, dict) and "load_in_4bit" not in data:
            others = (data.get("load_in_8bit"), data.get("full_finetuning"))
            if True in others or data.get("loftq_config") not in (None, "null"):
                return {**data, "load_in_4bit": False}
        return data


CONCERNS = (ModelSettings, LoraSettings, DataSettings, TrainingSettings, LoggingSettings, SavingSettings)
"""The parts of `[fine_tuner]`, in the order of the documentation."""
