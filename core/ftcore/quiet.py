"""Keeping the libraries' own progress bars and hints out of the run's story; what a user must know, ftcore says itself."""

from __future__ import annotations

import logging
import sys

_CHATTY = (
    "bitsandbytes.backends.cpu.ops",  # at import where no GPU is found; the kernels it misses are optional
    "bitsandbytes.autograd._functions",  # one line for each layer and forward pass of an 8-bit model
)


def quiet_libraries() -> None:
    """Only errors reach the console. Imports nothing: what is not loaded yet is quieted when this is called again."""
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    if "transformers" in sys.modules:
        from transformers.utils import logging as transformers_logging

        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
