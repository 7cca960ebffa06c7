"""The data source `hf`: datasets of the Hugging Face Hub, `user/data?name=main&split=train&revision=abc`.

Options of an id: `name` (the configuration), `split`, `revision` (branch, tag or commit), `streaming=true`, `rows`.
Without `split`, training data are the split `train`, validation data `validation` or else `test`; a dataset with one
split is used as it is. With streaming the rows are pulled over the network into an Arrow-backed dataset without
downloading whole files first: together with `rows` the way to take a little of something large. Code that a dataset
brings along is never run. Private and gated datasets need `HF_TOKEN` in the environment.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ftcore import arrow, hookimpl
from ftcore.contracts import DataRequest
from ftcore.errors import DataError, FtcoreError
from ftcore_data import _options
from ftcore_data._options import Options

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

OPTIONS = ("name", "split", "revision", "streaming", "rows")
_STREAMED_ROWS = 1000  # of one piece
_STREAM_MEMORY = 32 << 20  # bytes of Arrow data


@hookimpl
def ftcore_load_dataset(request: DataRequest, settings: Any) -> Dataset:
    """Load a dataset of the Hub. Raises ConfigError for its options, DataError for everything else."""
    options = _options.read(request, OPTIONS)
    streaming = options.flag("streaming")
    with _explained(request):
        import datasets

        # The first half of datasets.load_dataset: after it the splits are known, and nothing is downloaded yet.
        builder = datasets.load_dataset_builder(
            request.locator.path,
            name=options.get("name"),
            revision=options.get("revision"),
            token=os.environ.get("HF_TOKEN") or None,
        )
        split = _options.choose_split(_splits(builder), options.get("split"), request)
        if streaming:
            return _pull(builder, split, options, request)
        builder.download_and_prepare()
        rows: Dataset = builder.as_dataset(split=split)
    if not len(rows):
        raise DataError(f'"{request.locator.text}" has no rows in its split {split}', fix="Choose another split")
    return rows if options.rows is None else rows.take(min(options.rows, len(rows)))


def _splits(builder: Any) -> list[str]:
    if builder.info.splits:
        return [str(name) for name in builder.info.splits]
    return [str(name) for name in builder.config.data_files or ()]


def _pull(builder: Any, split: str, options: Options, request: DataRequest) -> Dataset:
    stream = builder.as_streaming_dataset(split=split)
    if options.rows is not None:
        stream = stream.take(options.rows)

    pieces: Iterator[pa.Table] = stream.with_format("arrow").iter(batch_size=_STREAMED_ROWS)
    # The commit is in the builder's hash, so a stream kept on disk is found again only while the Hub has the same.
    facts = (request.locator.path, builder.cache_dir, builder.hash, split, options.rows)
    key = hashlib.sha256(repr(facts).encode()).hexdigest()[:32]
    return arrow.dataset(pieces, request.locator.text, "hf", key=key, memory_limit=_STREAM_MEMORY)


@contextmanager
def _explained(request: DataRequest) -> Iterator[None]:
    """Turns what `datasets` and the Hub's client raise into one line."""
    try:
        yield
    except FtcoreError:
        raise
    except Exception as error:
        if (explanation := _explain(error, request)) is not None:
            raise explanation from None
        raise


def _explain(error: Exception, request: DataRequest) -> DataError | None:
    # By the classes' names, since some live in huggingface_hub, some in datasets and some in its HTTP client.
    chain = list(_chain(error))
    names = {kind.__name__ for link in chain for kind in type(link).__mro__}
    text = " ".join(" ".join(str(link) for link in chain).split())
    found = _wrong_request(names, text, request.locator.options) or _no_access(names, text, chain)
    if found is None and names & _OTHERWISE:
        found = _reason(chain), "Check the dataset's page, or download it and name a local file"
    if found is None:
        return None
    what = f'cannot load the dataset "{request.locator.text}" from the Hugging Face Hub'
    return DataError(what, why=found[0], fix=found[1])


_UNREACHABLE = {"ConnectionError", "TransportError", "TimeoutException", "TimeoutError", "LocalEntryNotFoundError"}
_OTHERWISE = {"HfHubHTTPError", "HTTPError", "DatasetsError", "ArrowException", "OSError", "ValueError"}


def _wrong_request(names: set[str], text: str, options: Mapping[str, str]) -> tuple[str, str] | None:
    """Why and fix, where the id asks for something that the dataset does not have."""
    if "RevisionNotFoundError" in names or "doesn't exist for dataset" in text:
        return f'it has no revision "{options.get("revision", "main")}"', "Give a branch, tag or commit of it"
    if "BuilderConfig" in text or "Config name is missing" in text:
        offered = text.partition("[")[2].partition("]")[0].replace("'", "")[:400]
        name = options.get("name")
        why = f'it has no configuration "{name}"' if name else "it has several configurations and none is named"
        return f"{why}; there are {offered}", "Choose one with ?name=…"
    if "scripts are no longer supported" in text:
        return "it is a loading script, and code is never run", "Use its Parquet revision"
    if names & {"EmptyDatasetError", "DataFilesNotFoundError"}:
        return "it holds no data files that can be read", "Check its page and the revision"
    if "HFValidationError" in names:
        return "an id is `name` or `user/name`", "Correct it"
    return None


def _no_access(names: set[str], text: str, chain: Sequence[BaseException]) -> tuple[str, str] | None:
    """Why and fix, where the dataset could not be reached or is not for this user."""
    from datasets import config

    token = "HF_TOKEN is set, and not enough" if os.environ.get("HF_TOKEN") else "HF_TOKEN is not set"
    if "GatedRepoError" in names or "is a gated dataset" in text:
        fix = "Ask for access on its page, and set HF_TOKEN to a token of that account"
        return f"access to it is granted one by one, and {token}", fix
    # Before the status: to a stranger the Hub answers 401 for a name that does not exist.
    if names & {"DatasetNotFoundError", "RepositoryNotFoundError"}:
        fix = "Check its spelling; a local file is written with its folder, like ./data.jsonl"
        return f"there is none of this name, or it is private and {token}", fix
    if {getattr(getattr(link, "response", None), "status_code", None) for link in chain} & {401, 403}:
        return f"the Hub refuses access, and {token}", "Set HF_TOKEN to a token that may read it"
    if not names & _UNREACHABLE:
        return None
    if config.HF_HUB_OFFLINE:
        fix = "Unset HF_HUB_OFFLINE, or name a local file"
        return "HF_HUB_OFFLINE is set and it is not in the local cache", fix
    fix = "Check the network, HF_ENDPOINT and the proxy, or name a local file"
    return f"nothing answers at {config.HF_ENDPOINT}", fix


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _reason(chain: Sequence[BaseException]) -> str:
    """The innermost error that says something, which is nearest to the cause."""
    told = [link for link in reversed(chain) if str(link).strip()]
    return " ".join(f"{type(told[0]).__name__}: {told[0]}".split())[:200].rstrip(".") if told else ""
