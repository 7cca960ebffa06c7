"""A configuration, from TOML to validated settings, and where each of its values comes from."""

from ftcore.config.config import CORE_SECTIONS, Config, in_order, load

__all__ = ["CORE_SECTIONS", "Config", "in_order", "load"]
