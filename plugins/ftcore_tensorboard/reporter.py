"""The reporter: event files, written with TensorBoard's own record format and messages.

torch's SummaryWriter would do too, but it needs torch, and it hands records to a thread of its own: whether they
reached the disk shows only later. Here a record that was logged is in the file.
"""

from __future__ import annotations

import errno
import io
import json
import os
import socket
import time as clock
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcore.contracts import Logged, Run, RunRecord, RunStatus

if TYPE_CHECKING:
    from ftcore_tensorboard import TensorboardSettings


class TensorboardReporter:
    """Implements `ftcore.contracts.Reporter`. Artifacts have no place in event files; they stay where they are."""

    def __init__(self, run: Run, settings: TensorboardSettings) -> None:
        base = Path(settings.log_dir).expanduser() / run.name if settings.log_dir else run.dir / "tensorboard"
        self._run, self._folder = run, base.absolute()
        self._file: Path | None = None
        self._restarted = False

    def start(self, record: RunRecord) -> str:
        """Begin a new event file and describe the run in it; returns the folder.

        Raises:
            OSError: the file cannot be made.
        """
        from tensorboard.compat.proto.event_pb2 import Event

        self._folder.mkdir(parents=True, exist_ok=True)
        started = self._run.started_at.timestamp()
        # TensorBoard reads the files of a folder in the order of their names, so the time comes first in them.
        name = f"events.out.tfevents.{int(clock.time()):010d}.{socket.gethostname()}.{os.getpid()}.{clock.time_ns()}"
        self._file = self._folder / name
        self._write(Event(wall_time=started, file_version="brain.Event:2"))
        for tag, values in (("settings", record.params), ("tags", record.tags)):
            if values:
                self._write(Event(wall_time=started, step=0, summary=_table(tag, values)))
        self._write(Event(wall_time=started, step=0, summary=_hyperparameters(record, started)))
        if record.external_id is None:
            self._run.say(f"curves     tensorboard --logdir {self._folder}")
        else:
            self._restarted = True
        return str(self._folder)

    def log(self, metrics: Mapping[str, float], step: int, time: float) -> None:
        """One point of each metric's curve."""
        self.log_many([Logged(metrics, step, time)])

    def log_many(self, records: Sequence[Logged]) -> None:
        """Points of several steps, written at once."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary

        if self._restarted:
            # A resumed run may begin at an earlier step than the one it was stopped at; TensorBoard then drops the
            # points behind it, which are about to be written again.
            first = records[0]
            self._write(Event(wall_time=first.time, step=first.step, session_log=SessionLog(status=SessionLog.START)))
            self._restarted = False
        events = []
        for record in records:
            values = [Summary.Value(tag=name, simple_value=value) for name, value in record.metrics.items()]
            events.append(Event(wall_time=record.time, step=record.step, summary=Summary(value=values)))
        self._write(*events)

    def artifact(self, path: Path, name: str) -> None:
        """Nothing to do: event files hold no artifacts."""

    def finish(self, status: RunStatus, time: float) -> None:
        """Write how the run ended."""
        from tensorboard.compat.proto.event_pb2 import Event

        self._write(Event(wall_time=time, summary=_session_end(status, time)))

    def _write(self, *events: Any) -> None:
        """Append events, all of them or none."""
        from tensorboard.summary.writer.record_writer import RecordWriter

        assert self._file is not None, "start comes first"
        record = io.BytesIO()
        writer = RecordWriter(record)
        for event in events:
            writer.write(event.SerializeToString())
        with self._file.open("ab", buffering=0) as file:
            before = self._file.stat().st_size
            written = file.write(record.getvalue())
            if written != len(record.getvalue()):
                # Readers stop at half a record and would never see what follows it.
                file.truncate(before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._file))


def _table(tag: str, values: Mapping[str, Any]) -> Any:
    """A Markdown table, in the form that TensorBoard's text page reads."""
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING
    from tensorboard.plugins.text import metadata

    rows = "".join(f"| {name} | {_cell(value)} |\n" for name, value in sorted(values.items()))
    text = f"| key | value |\n|---|---|\n{rows}"
    described: SummaryMetadata = metadata.create_summary_metadata(display_name=tag, description="")
    tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()])
    return Summary(value=[Summary.Value(tag=tag, tensor=tensor, metadata=described)])


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text.replace("|", "\\|").replace("\n", " ")


def _hyperparameters(record: RunRecord, started: float) -> Any:
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    plain = {
        name: value if isinstance(value, bool | int | float | str) else _cell(value)
        for name, value in record.params.items()
    }
    return hparams_pb(plain, trial_id=record.name, start_time_secs=started)


def _session_end(status: RunStatus, when: float) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

    ended = api_pb2.STATUS_SUCCESS if status == "finished" else api_pb2.STATUS_FAILURE
    described = metadata.create_summary_metadata(
        HParamsPluginData(session_end_info=SessionEndInfo(status=ended, end_time_secs=when))
    )
    value = Summary.Value(tag=metadata.SESSION_END_INFO_TAG, tensor=metadata.NULL_TENSOR, metadata=described)
    return Summary(value=[value])
