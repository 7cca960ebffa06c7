"""What is fuzzed. Each target takes bytes, and raises only where something other than a documented error came out."""

from __future__ import annotations

import gzip
import io
import json
import random
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from drawing import Draw

from ftcore import config as configs
from ftcore import secrets
from ftcore.config import CORE_SECTIONS
from ftcore.contracts import DataRequest, DataView
from ftcore.errors import EXIT_CODES, FtcoreError, InvalidConfig
from ftcore.locators import parse
from ftcore.plugins import Plugins, discover
from ftcore.settings.data import DataSettings

MINIMAL = '[fine_tuner]\nbase_model_id = "m"\ntraining_data_id = "d.jsonl"\n'
_REQUIRED = {"base_model_id": '"m"', "training_data_id": '"d.jsonl"'}
_ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".ndjson", ".jsonl.gz", ".csv.gz", ".parquet", ".arrow")
_ROLES = ("system", "user", "assistant", "tool")


@cache
def _plugins() -> Plugins:
    return discover(disabled=())


@cache
def _scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix="ftcore-fuzz-"))


def require_documented(error: FtcoreError) -> None:
    """An error that a user can cause: readable lines, and an exit code that is documented."""
    assert error.exit_code in EXIT_CODES, error.exit_code
    lines = error.lines if isinstance(error, InvalidConfig) else (str(error),)
    assert lines
    for line in lines:
        assert line.strip(), "an empty message"
        assert "\n" not in line, f"a message of several lines: {line!r}"
        assert "Traceback" not in line, line
        assert len(line) < 5000, f"a message of {len(line)} characters"
        secrets.mask(line).encode("utf-8", "replace")


def config(data: bytes) -> str:
    """A whole configuration file, sometimes one that extends others."""
    draw = Draw(data)
    text = draw.rest() if draw.number(4) == 0 else _config_text(draw).encode("utf-8", "surrogatepass")
    path = _scratch() / "config.toml"
    if draw.number(4) == 1:
        (_scratch() / "base.toml").write_bytes(_config_text(draw).encode("utf-8", "surrogatepass"))
        extended = draw.choice(
            ('"base.toml"', '["base.toml"]', '"config.toml"', '"a:b"', '"${HOME}"', _toml_text(draw))
        )
        text = f"extends = {extended}\n".encode("utf-8", "surrogatepass") + text
    path.write_bytes(text)
    return _load(path, [])


def override(data: bytes) -> str:
    """Texts behind `--set`, beside a valid file."""
    draw = Draw(data)
    path = _scratch() / "minimal.toml"
    path.write_text(MINIMAL)
    overrides = []
    for _ in range(1 + draw.number(3)):
        section, key = draw.choice(_keys())
        left = draw.text() if draw.number(5) == 0 else f"{section}.{key}"
        overrides.append(f"{left}={_toml_value(draw)}" if draw.number(8) else draw.text(80))
    return _load(path, overrides)


def _load(path: Path, overrides: list[str]) -> str:
    secrets._remembered.clear()
    try:
        found = configs.load(path, _plugins(), overrides)
    except FtcoreError as error:
        require_documented(error)
        return type(error).__name__
    from ftcore.run import runs

    again = path.with_name("again.toml")
    again.write_text(runs.as_toml(found), encoding="utf-8")
    chosen = {section: list(table) for section, table in found.given.items()}
    if not secrets._remembered and secrets.MASK not in again.read_text(encoding="utf-8"):
        assert _written(configs.load(again, _plugins(), (), chosen)) == _written(found), "read again it is another"
    return "valid"


def _written(found: configs.Config) -> str:
    """All settings of `[fine_tuner]`, a NaN in a free table equal to itself."""
    return json.dumps(found.fine_tuner.model_dump(), sort_keys=True, default=repr)


def reader(data: bytes) -> str:
    """A data file of any kind."""
    from ftcore_data import file
    from ftcore_data._settings import FileSettings

    draw = Draw(data)
    ending = draw.choice(_ENDINGS)
    content = _rows_text(draw, ending) if draw.number(3) else draw.rest()
    if ending.endswith(".gz") and draw.number(4):
        buffer = io.BytesIO()
        with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed:
            packed.write(content)
        content = buffer.getvalue()[: -draw.number(3) or None]
    path = _scratch() / f"data{ending}"
    path.write_bytes(content)
    options = draw.choice(("", "", "?rows=2", "?split=train", "?rows=-1", "?x=1", "?rows=0"))
    try:
        locator = parse(f"{path}{options}")
        request = DataRequest(locator, "training", 1, 0, path.parent)
        rows = file.ftcore_load_dataset(request, FileSettings(cache_dir=str(_scratch() / "cache")))
    except FtcoreError as error:
        require_documented(error)
        return type(error).__name__
    assert len(rows) > 0
    assert rows.column_names
    rows[0], rows[len(rows) - 1]
    return "rows"


def formatter(data: bytes) -> str:
    """A row of any shape, through each formatter that takes its columns."""
    draw = Draw(data)
    names = draw.choice((("question", "answer"), ("messages",), ("instruction", "output"), ("conversations",)))
    row = {name: _cell(draw, name) for name in names}
    for _ in range(draw.number(3)):
        row[draw.choice(("input", "system", "text", "context", "answer"))] = draw.value()
    outcomes = []
    for name in ("qa", "instruction", "messages"):
        try:
            view = DataView(list(row), _minimal().fine_tuner.view(DataSettings), [row])
            make = _plugins().call("ftcore_make_formatter", name, data=view, settings=_minimal().section(name))
        except FtcoreError as error:
            require_documented(error)
            outcomes.append(type(error).__name__)
            continue
        try:
            turns = make(row)
        except ValueError as error:
            outcomes.append("refused" if str(error) else "refused without a reason")
            continue
        assert turns
        for turn in turns:
            assert turn["role"] in _ROLES, turn
            assert isinstance(turn["content"], str), turn
        outcomes.append("formatted")
    assert "refused without a reason" not in outcomes
    return ",".join(outcomes)


def _cell(draw: Draw, name: str) -> Any:
    if draw.number(4) == 0:
        return draw.value()
    if name in ("messages", "conversations"):
        if draw.number(2):
            return draw.turns()
        who = ("user", "assistant") if draw.number(2) else ("human", "gpt")
        keys = ("role", "content") if draw.number(2) else ("from", "value")
        return [{keys[0]: who[turn % 2], keys[1]: draw.text() or "x"} for turn in range(2 * (1 + draw.number(3)))]
    return draw.text() or "x"


def locator(data: bytes) -> str:
    """An id of a model or of data."""
    try:
        found = parse(Draw(data).text(200))
    except FtcoreError as error:
        require_documented(error)
        return type(error).__name__
    assert all(isinstance(value, str) for value in found.options.values())
    return "id"


TARGETS: dict[str, Callable[[bytes], str]] = {
    "config": config,
    "override": override,
    "reader": reader,
    "formatter": formatter,
    "locator": locator,
}


def random_inputs(seed: int) -> Iterator[bytes]:
    """Bytes without end: some from nothing, some changed from the ones before."""
    luck = random.Random(seed)
    kept = [b""]
    while True:
        if luck.random() < 0.5:
            data = luck.randbytes(luck.choice((4, 16, 64, 256)))
        else:
            data = bytearray(luck.choice(kept))
            for _ in range(luck.randint(1, 4)):
                at = luck.randint(0, len(data))
                data[at : at + luck.randint(0, 3)] = luck.randbytes(luck.randint(0, 3))
            data = bytes(data)
        kept = [*kept[-50:], data]
        yield data


@cache
def _minimal() -> configs.Config:
    path = _scratch() / "smallest.toml"
    path.write_text(MINIMAL)
    return configs.load(path, _plugins())


@cache
def _keys() -> tuple[tuple[str, str], ...]:
    models = CORE_SECTIONS | _plugins().sections
    return tuple((section, key) for section, model in models.items() for key in model.model_fields)


def _toml_value(draw: Draw) -> str:
    """A value in TOML."""
    kind = draw.number(8)
    if kind < 3:
        return draw.choice(
            ("true", "false", "8", "0.5", "1e-4", '"null"', '"auto"', '"x"', '["q_proj"]', "[]", "{}", "0", "-1")
        )
    return _toml_text(draw)


def _toml_text(draw: Draw) -> str:
    """What may stand behind an equals sign, right or wrong."""
    kind = draw.number(7)
    if kind == 0:
        return json.dumps(draw.text(), ensure_ascii=bool(draw.number(2)))
    if kind == 1:
        return draw.choice(("true", "false", "nan", "inf", "-inf", "0", "-1", "1", "8", "0.5", "1e-4", "9" * 400))
    if kind == 2:
        return "[" + ", ".join(_toml_text(draw) for _ in range(draw.number(4))) + "]"
    if kind == 3:
        return "{ " + ", ".join(f"a{number} = {_toml_text(draw)}" for number in range(draw.number(3))) + " }"
    if kind == 4:
        return draw.choice(("2026-11-23", "07:32:00", "'''x'''", '"""\nx"""', '"null"', '"auto"', '"${HOME}"', "1_000"))
    if kind == 5:
        return json.dumps(
            draw.choice(("qa", "sft", "local", "hub", "mlflow", "none", "q_proj", "adamw_torch", "all-linear"))
        )
    return draw.text()


def _config_text(draw: Draw) -> str:
    """Lines of TOML: mostly well-formed, since what is not TOML at all is refused at once."""
    tables: dict[str, dict[str, str]] = {} if draw.number(8) == 0 else {"fine_tuner": dict(_REQUIRED)}
    for _ in range(draw.number(8)):
        section, key = draw.choice(_keys())
        section = json.dumps(draw.text()) if draw.number(12) == 0 else section
        key = json.dumps(draw.text()) if draw.number(12) == 0 else key
        tables.setdefault(section, {})[key] = draw.text() if draw.number(12) == 0 else _toml_value(draw)
    lines = []
    for section, table in tables.items():
        lines += [f"[{section}]", *(f"{key} = {value}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _rows_text(draw: Draw, ending: str) -> bytes:
    rows: list[Any] = []
    names = [draw.choice(("question", "answer", "messages", "a", "b")) for _ in range(1 + draw.number(3))]
    alike = draw.number(4)
    for _ in range(draw.number(6)):
        if alike:
            rows.append({name: draw.text() for name in names})
        else:
            rows.append({draw.text(): draw.value() for _ in range(draw.number(4))} if draw.number(6) else draw.value())
    if "csv" in ending or "tsv" in ending:
        between = draw.choice((",", ";", "\t", "|"))
        text = draw.choice(("\n", "\r\n", "\r")).join(
            between.join(str(cell) for cell in (row.values() if isinstance(row, dict) else [row])) for row in rows
        )
    elif draw.number(2):
        text = "\n".join(json.dumps(row) for row in rows)
    else:
        text = json.dumps({"data": rows} if draw.number(2) else rows)
    return text.encode(draw.choice(("utf-8", "utf-8", "utf-8", "utf-16", "utf-8-sig")), "surrogatepass")
