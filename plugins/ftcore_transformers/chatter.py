"""Keeping the libraries' own progress bars and hints out of the run's story."""

from __future__ import annotations

import logging


def quiet_libraries() -> None:
    """Only errors from the libraries reach the console; what a user must know, ftcore says itself."""
    # Said at import, when no GPU is found; the kernels it misses are optional.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    # One line for each layer and forward pass of an 8-bit model.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
