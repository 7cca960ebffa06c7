"""What is wrong with prepared data, each with the rows and the remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ftcore.audit.judging import Case, Violation, above, counted, doubled
from ftcore.audit.unusable import unusable
from ftcore.statistics import SHOWN_ROWS, Finding, Split

_SHORT = 512
"""Up to so many tokens, no example is called long."""


def violations(case: Case) -> list[Violation]:
    """Everything that is wrong, in the order of its weight."""
    training = case.found.training
    found = list(unusable(case.bad_rows, case.limits))
    if not training.rows:
        fix = "Check the file, its columns and [audit] bad_rows"
        nothing = Violation("nothing", "error", "the training data have no usable rows", fix=fix)
        return found if any(one.severity == "error" for one in found) else [*found, nothing]
    found += list(_nothing_learned(case, training)) or [one for check in _ROW_CHECKS for one in check(case, training)]
    found += [one for check in _OTHER_CHECKS for one in check(case)]
    return [one for one in found if one.check not in case.limits.ignore]


def _nothing_learned(case: Case, training: Split) -> Iterator[Violation]:
    if training.supervised:
        return
    shown = f"; the first example is {case.first[:400]!r}" if case.first else ""
    sought = f", where {case.facts['answer_part']!r} was looked for" if case.facts.get("answer_part") else ""
    cut = training.cut_prompts.count == training.rows
    yield Violation(
        "nothing",
        "error",
        "no token of the training data would be trained on",
        f"all {training.tokens} labels are masked{shown}{sought}",
        f"Raise max_sequence_length{case.need()}: every prompt alone fills {case.settings.max_sequence_length} tokens"
        if cut
        else "Check question_part and answer_part against the chat template, and max_sequence_length",
        tuple(range(min(training.rows, SHOWN_ROWS))),
        training.rows,
    )


def _truncated(case: Case, training: Split) -> Iterator[Violation]:
    lost = f"{training.lost_supervised:,} tokens to learn are lost" if training.lost_supervised else ""
    yield from above(
        case,
        "truncated",
        "max_truncated",
        training.truncated,
        f"are longer than {case.settings.max_sequence_length} tokens and are cut",
        lost,
        f"Raise max_sequence_length{case.need()}, or shorten them",
    )


def _cut_prompts(case: Case, training: Split) -> Iterator[Violation]:
    yield from above(
        case,
        "cut_prompts",
        "max_cut_prompts",
        training.cut_prompts,
        f"teach nothing, because the prompt alone fills {case.settings.max_sequence_length} tokens",
        "",
        f"Raise max_sequence_length{case.need()}, or shorten or remove them",
    )


def _unsupervised(case: Case, training: Split) -> Iterator[Violation]:
    cut = set(training.cut_prompts.rows)
    rest = Finding(
        training.unsupervised.count - training.cut_prompts.count,
        tuple(row for row in training.unsupervised.rows if row not in cut),
    )
    yield from above(
        case,
        "unsupervised",
        "max_unsupervised",
        rest,
        "have no token to learn",
        "",
        "Give them an answer, or remove them",
    )


def _unended(case: Case, training: Split) -> Iterator[Violation]:
    end = f"the token {' or '.join(map(repr, case.ends))}" if case.ends else "an EOS token"
    if training.ended:
        what, fix = f"end their answer without {end}", "Mend these rows"
    else:
        what = f"end their answer without {end}, and none teaches it"
        fix = "Choose a chat template that ends answers with it (chat_template)"
    yield from above(
        case, "unended", "max_unended", training.unended, what, "a model that does not learn it does not stop", fix
    )


def _stop_token(case: Case, training: Split) -> Iterator[Violation]:
    if training.ended and case.ends and case.stops and not set(case.stops) & set(case.ends[-1:]):
        yield Violation(
            "stop_token",
            "warning",
            f"answers end with {case.ends[-1]!r}, at which the model does not stop",
            f"it stops at {' or '.join(map(repr, case.stops))}",
            "Choose a chat template that ends answers with that (chat_template), or change the tokenizer's EOS token",
        )


def _double_bos(case: Case, training: Split) -> Iterator[Violation]:
    yield from above(
        case,
        "double_bos",
        "max_double_bos",
        training.double_bos,
        "begin with two BOS tokens",
        "the chat template writes one, and the text another",
        "Take it out of the data or the template",
    )


def _duplicates(case: Case, training: Split) -> Iterator[Violation]:
    yield from doubled(
        case,
        "duplicates",
        "max_duplicates",
        training.duplicates,
        training.rows,
        "training examples equal an earlier one",
        "row {} is row {}",
        "they weigh more than the others",
        "Remove them",
    )


def _overlap(case: Case) -> Iterator[Violation]:
    if case.found.validation is not None:
        yield from doubled(
            case,
            "overlap",
            "max_overlap",
            case.found.overlap,
            case.found.validation.rows,
            "validation examples are training examples too",
            "validation row {} is training row {}",
            "the evaluation loss will look better than it is",
            "Remove them from one of the two",
        )


def _supervised_share(case: Case) -> Iterator[Violation]:
    training, limits = case.found.training, case.limits
    share = training.supervised_share
    if training.supervised and share < limits.min_supervised_share:
        what, fix = "is trained on", "Check that the answers are where they are looked for"
    elif case.settings.train_on_responses_only and share > limits.max_supervised_share:
        what = "is trained on, though train_on_responses_only is true"
        fix = "Check question_part, answer_part and the questions"
    else:
        return
    yield Violation(
        "supervised_share", "warning", f"{share:.2%} of the training tokens {what}", fix=f"{fix}; {case.show([0])}"
    )


def _length(case: Case) -> Iterator[Violation]:
    lengths = case.found.training.lengths
    long = max(_SHORT, case.limits.max_length_ratio * lengths.p95)
    if case.found.packed_rows is not None or lengths.longest <= long or case.longest is None:
        return
    yield Violation(
        "length",
        "warning",
        f"training row {case.longest} has {lengths.longest:,} tokens, and 95 % of the rows have at most {lengths.p95:,}",
        "it alone decides how much memory is needed",
        f"Lower max_sequence_length, or remove it; {case.show([case.longest])}",
        (case.longest,),
        1,
    )


def _warmup(case: Case) -> Iterator[Violation]:
    steps, warmup = case.found.steps, case.settings.warmup_steps
    if 0 < steps <= warmup:
        yield Violation(
            "warmup",
            "warning",
            f"the learning rate never gets to {case.settings.learning_rate:g}",
            f"training takes {steps} steps, and warmup_steps is {warmup}",
            "Lower warmup_steps, or raise epochs",
        )


def _validation(case: Case) -> Iterator[Violation]:
    held_out = case.found.validation
    if held_out is None:
        return
    if held_out.rows and not held_out.supervised:
        why = f"all {held_out.tokens} labels are masked"
        fix = "Check the validation data's columns and max_sequence_length"
        yield Violation("nothing", "error", "no token of the validation data would be evaluated", why, fix)
    elif held_out.truncated:
        what = f"{counted(held_out.truncated, held_out.rows, 'validation')} are cut at {case.settings.max_sequence_length} tokens"
        fix = "Raise max_sequence_length, or shorten them"
        yield Violation("truncated", "warning", what, "", fix, held_out.truncated.rows, held_out.truncated.count)


_ROW_CHECKS: tuple[Callable[[Case, Split], Iterator[Violation]], ...] = (
    _cut_prompts,
    _truncated,
    _unsupervised,
    _unended,
    _stop_token,
    _double_bos,
    _duplicates,
)
_OTHER_CHECKS: tuple[Callable[[Case], Iterator[Violation]], ...] = (
    _overlap,
    _validation,
    _supervised_share,
    _length,
    _warmup,
)
