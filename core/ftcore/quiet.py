"""Keeping the libraries' own progress bars and hints out of the run's story; what a user must know, ftcore says itself."""

from __future__ import annotations

import logging
import re
import sys
import time

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


_HUB_CLIENT = ("huggingface_hub.utils._http", "huggingface_hub.hf_api")
_ATTEMPT = re.compile(r"(?P<reason>.+) thrown while requesting |Retrying in ")
_SILENT_FOR = 300.0  # seconds; the client has ten lines for each file that it cannot get, and makes six attempts


class HubOutages(logging.Filter):
    """Of all that the Hub's client says about its attempts, one line in a while."""

    def __init__(self) -> None:
        super().__init__()
        self._told_at: float | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        attempt = _ATTEMPT.match(record.getMessage())
        if attempt is None:
            return True
        now = time.monotonic()
        if attempt["reason"] and (self._told_at is None or now - self._told_at > _SILENT_FOR):
            self._told_at = now
            reason = attempt["reason"].strip("'")
            text = f"warning: the Hugging Face Hub does not answer ({reason}); its client tries again, half a minute for each file"
            print(text, file=sys.stderr, flush=True)
        return False


def tell_of_outages_once() -> None:
    """Let an outage of the Hub be a line and no page; before anything is asked of it."""
    for name in _HUB_CLIENT:
        logger = logging.getLogger(name)
        if not any(isinstance(one, HubOutages) for one in logger.filters):
            logger.addFilter(_OUTAGES)


_OUTAGES = HubOutages()


class Unheard(logging.Filter):
    """Passes what no other handler has shown: libraries have handlers of their own, and pass their records on as well."""

    def filter(self, record: logging.LogRecord) -> bool:
        logger = logging.getLogger(record.name)
        while logger.parent is not None:
            if any(not isinstance(handler, logging.NullHandler) for handler in logger.handlers):
                return False
            logger = logger.parent
        return True
