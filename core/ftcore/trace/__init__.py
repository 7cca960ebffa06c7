"""Who was called in a run, and how long each took."""

from ftcore.trace.call import Call
from ftcore.trace.recorder import FILE, Trace, own_work

__all__ = ["FILE", "Call", "Trace", "own_work"]
