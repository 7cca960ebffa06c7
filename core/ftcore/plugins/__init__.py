"""Plugins: found, registered one by one, blamed by name, and chosen for a run."""

from ftcore.plugins.discovery import PluginRecord
from ftcore.plugins.registry import DISABLE_VARIABLE, Plugins, breach, discover

__all__ = ["DISABLE_VARIABLE", "PluginRecord", "Plugins", "breach", "discover"]
