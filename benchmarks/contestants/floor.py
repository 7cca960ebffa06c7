"""The least that preparing data takes: one pass that renders, encodes, finds the answers and makes Arrow columns.

It knows that each row is one question and one answer, and checks nothing.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, load_dataset
from job import read_job, write_report
from multiprocess import get_context
from transformers import AutoTokenizer

_BATCH = 1000
_state: dict[str, Any] = {}


def encode(batch: dict[str, list[str]]) -> pa.Table:
    """Tokens and labels of a batch."""
    tokenizer, marker = _state["tokenizer"], _state["marker"]
    texts = tokenizer.apply_chat_template(
        [
            [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            for question, answer in zip(batch["question"], batch["answer"], strict=True)
        ],
        tokenize=False,
    )
    rows = [encoding.ids for encoding in tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)]
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    flat = np.concatenate([np.asarray(row, dtype=np.int32) for row in rows])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    hits = flat[: len(flat) - len(marker) + 1] == marker[0]
    for shift in range(1, len(marker)):
        hits &= flat[shift : len(flat) - len(marker) + 1 + shift] == marker[shift]
    starts = np.flatnonzero(hits) + len(marker)  # one in each row
    labels = np.where(np.arange(len(flat)) < np.repeat(starts, lengths), -100, flat).astype(np.int32)
    borders = pa.array(offsets, pa.int32())
    return pa.table(
        {
            "input_ids": pa.ListArray.from_arrays(borders, pa.array(flat)),
            "labels": pa.ListArray.from_arrays(borders, pa.array(labels)),
        }
    )


def main() -> None:
    """Prepare the job's rows."""
    job, folder = read_job()
    tokenizer = AutoTokenizer.from_pretrained(job.model)
    dataset = load_dataset("json", data_files=job.data, split="train")
    began = time.perf_counter()
    _state["tokenizer"] = tokenizer
    _state["marker"] = tokenizer(job.answer_part, add_special_tokens=False)["input_ids"]
    batches = (dataset[start : start + _BATCH] for start in range(0, len(dataset), _BATCH))
    if job.processes == 1:
        tables = list(map(encode, batches))
    else:
        with get_context("fork").Pool(job.processes) as pool:
            tables = list(pool.imap(encode, batches))
    prepared = Dataset(pa.concat_tables(tables))
    seconds = time.perf_counter() - began
    supervised = sum(int((np.asarray(column.values) != -100).sum()) for column in prepared.data["labels"].chunks)
    write_report(folder, prepare_seconds=seconds, rows=len(prepared), supervised_tokens=supervised)


if __name__ == "__main__":
    main()
