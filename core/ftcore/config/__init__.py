"""A configuration, from TOML to validated settings, and where each of its values comes from."""

from ftcore.config.config import CORE_SECTIONS, Config, in_order
from ftcore.config.reading import Reading, load, read

__all__ = ["CORE_SECTIONS", "Config", "Reading", "in_order", "load", "read"]
