"""Who was called in a run, and how long each took."""

from ftcore.trace.recorder import FILE, Call, Trace, own_work

__all__ = ["FILE", "Call", "Trace", "own_work"]
