"""What can be chosen for a new plugin."""

from __future__ import annotations

KINDS = {
    "data": "a data source: the rows of CSV and JSON-lines files, by the ids NAME:table",
    "formatter": "a formatter: columns of a row as the turns of a conversation",
    "loader": "a loader: tokenizer and model from folders of the machine, with a LoRA adapter",
    "trainer": "a trainer: a loop in plain PyTorch",
    "reporter": "a reporter: what trackers are told, as JSON lines in the run directory",
    "saver": "a saver: the trained model as a zip file",
    "namer": "a namer: names of runs by a pattern",
    "launcher": "a launcher: the training in a process of its own",
}
"""The kinds of plugins, each a folder of `templates`, and what is written for it."""

TRAINS = frozenset({"data", "loader", "trainer"})
"""The kinds whose code imports what ftcore's extra `train` installs."""

VALIDATES = frozenset({"data", "formatter", "launcher", "namer", "reporter", "trainer"})
"""The kinds whose settings import pydantic themselves."""

LICENSES = {"proprietary": "LicenseRef-Proprietary", "mit": "MIT"}
"""The licences that there is a text for, each with its SPDX identifier."""
