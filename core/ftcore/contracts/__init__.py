"""The types that cross a plugin boundary, a module for each kind of plugin; import all of them from here.

Heavy objects (models, tokenizers, datasets) are named only for type checkers, so that importing them costs nothing and a
plugin can be tested without torch.
"""

from ftcore.contracts.data import DataRequest, DataView, Locator
from ftcore.contracts.formatter import Conversation, Formatter, Message
from ftcore.contracts.launcher import Job
from ftcore.contracts.loader import Loader
from ftcore.contracts.policy import Policy
from ftcore.contracts.reporter import Batching, Logged, Reporter, RunRecord
from ftcore.contracts.run import Run, RunStatus
from ftcore.contracts.saver import HeldOut, Saved, Trained
from ftcore.contracts.stages import Bid, Declined, Stage
from ftcore.contracts.trainer import (
    IGNORED,
    BadRows,
    BatchShape,
    Device,
    Examples,
    FitResult,
    LossTracer,
    Observer,
    Prepared,
    Rehearsed,
    Rehearsing,
    Trainer,
)

__all__ = [
    "IGNORED",
    "BadRows",
    "BatchShape",
    "Batching",
    "Bid",
    "Conversation",
    "DataRequest",
    "DataView",
    "Declined",
    "Device",
    "Examples",
    "FitResult",
    "Formatter",
    "HeldOut",
    "Job",
    "Loader",
    "Locator",
    "Logged",
    "LossTracer",
    "Message",
    "Observer",
    "Policy",
    "Prepared",
    "Rehearsed",
    "Rehearsing",
    "Reporter",
    "Run",
    "RunRecord",
    "RunStatus",
    "Saved",
    "Stage",
    "Trained",
    "Trainer",
]
