"""The gate between the data and the model: what is prepared is counted and judged before anything expensive happens."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ftcore import files
from ftcore.audit.judging import Case, Violation
from ftcore.audit.unusable import bad_rows
from ftcore.audit.violations import violations
from ftcore.config import Config
from ftcore.contracts import Prepared
from ftcore.errors import FailedAudit
from ftcore.secrets import masked
from ftcore.statistics import Statistics, statistics
from ftcore.statistics.columns import token_counts
from ftcore.turns import ends_of

if TYPE_CHECKING:
    from ftcore.run.steps import Work

FILE = "audit.json"
"""The file of the run directory that holds the audit."""


@dataclass(frozen=True)
class Audit:
    """What was counted, and what is wrong with it.

    Attributes:
        statistics: the counts.
        violations: errors and warnings.
        facts: what the trainer said of the data.
    """

    statistics: Statistics
    violations: tuple[Violation, ...]
    facts: dict[str, Any]

    @property
    def errors(self) -> list[Violation]:
        """What stops the run."""
        return [one for one in self.violations if one.severity == "error"]

    @property
    def warnings(self) -> list[Violation]:
        """What does not."""
        return [one for one in self.violations if one.severity == "warning"]

    def require_passed(self) -> None:
        """Stop where training could not do what was meant.

        Raises:
            DataError: for one error.
            FailedAudit: for several, with a line for each.
        """
        errors = self.errors
        if len(errors) == 1:
            raise errors[0].error
        if errors:
            raise FailedAudit([str(error) for error in errors])

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = [{**asdict(one), "rows": list(one.rows)} for one in self.violations]
        return {"passed": not self.errors, "violations": found, "statistics": self.statistics.as_dict()}

    def summary(self) -> str:
        """The data in one line."""
        training = self.statistics.training
        text = (
            f"{training.rows:,} rows, {training.tokens:,} tokens, {100 * training.supervised_share:.1f} % supervised, "
            f"longest {training.lengths.longest}"
        )
        held_out = self.statistics.validation
        return text if held_out is None else f"{text}; validation {held_out.rows:,} rows"

    def counts(self) -> dict[str, Any]:
        """Numbers for the manifest and the model card, the trainer's own among them."""
        training, held_out = self.statistics.training, self.statistics.validation
        facts = self.facts | {
            "training_rows": training.rows,
            "tokens": training.tokens,
            "supervised_tokens": training.supervised,
            "longest": training.lengths.longest,
            "duplicates": training.duplicates.count,
        }
        if held_out is not None:
            facts |= {
                "validation_rows": held_out.rows,
                "validation_tokens": held_out.tokens,
                "validation_rows_in_training": self.statistics.overlap.count,
            }
        told = "; ".join(one.what for one in self.warnings)
        return facts | {"audit": f"passed with warnings: {told}" if told else "passed"}

    def metrics(self) -> dict[str, float]:
        """Numbers for the reporters."""
        training = self.statistics.training
        values = {
            "rows": training.rows,
            "tokens": training.tokens,
            "supervised_share": training.supervised_share,
            "truncated_rows": training.truncated.count,
            "lost_supervised_tokens": training.lost_supervised,
            "duplicates": training.duplicates.count,
            "validation_overlap": self.statistics.overlap.count,
            "warnings": len(self.warnings),
        }
        return {f"data_{name}": float(value) for name, value in values.items()}


def examine(prepared: Prepared, tokenizer: Any, config: Config) -> Audit:
    """Count and judge prepared data."""
    found = statistics(prepared, tokenizer, config.fine_tuner)
    examples = prepared.train if prepared.examples is None else prepared.examples
    some = bool(len(examples))
    case = Case(
        found,
        prepared.facts,
        config.fine_tuner,
        config.audit,
        str(config.path),
        bad_rows(prepared, found.training.rows),
        tokenizer.decode(examples[0]["input_ids"]) if some else "",
        _longest(examples) if some else None,
        _texts(tokenizer, ends_of(tokenizer).ids),
        _stops(tokenizer),
    )
    return Audit(found, tuple(violations(case)), dict(prepared.facts))


def gate(work: Work, prepared: Prepared, tokenizer: Any, again: bool) -> dict[str, Any]:
    """Let the data pass or not; the run directory and the reporters have the audit either way.

    Args:
        again: the run goes on, and its reporters have the numbers.

    Returns:
        Facts for the manifest and the model card.

    Raises:
        DataError: they do not pass.
    """
    active = work.active
    audit = examine(prepared, tokenizer, work.config)
    if active.is_main:
        files.write_json(active.dir / FILE, masked(audit.as_dict()))
    tell(audit, active.say, active.warn)
    work.reporting.artifact(active.dir / FILE, FILE)
    if not again:
        work.reporting.log(0, audit.metrics())
    audit.require_passed()
    return audit.counts()


def tell(audit: Audit, say: Callable[[str], None], warn: Callable[[str], None]) -> None:
    """The data in one line, and the warnings."""
    say(f"data       {audit.summary()}")
    for warning in audit.warnings:
        warn(str(warning))


def _longest(examples: Any) -> int:
    """The number of the longest row in the user's data."""
    at = int(token_counts(examples).argmax())
    return int(examples[at]["row"]) if "row" in examples.column_names else at


def _stops(tokenizer: Any) -> list[str]:
    """What the model's files say that generating stops at; empty where they are not at hand."""
    from transformers import GenerationConfig

    try:
        found = GenerationConfig.from_pretrained(tokenizer.name_or_path, local_files_only=True).eos_token_id
    except (OSError, ValueError, TypeError):
        return []
    ids = found if isinstance(found, list) else [] if found is None else [found]
    return _texts(tokenizer, ids)


def _texts(tokenizer: Any, ids: Iterable[int]) -> list[str]:
    return [str(tokenizer.convert_ids_to_tokens(token)) for token in ids]
