"""What a configuration may say, one model per concern. Plugins derive their own section from `Section`."""

from ftcore.settings.base import Section

__all__ = ["Section"]
