"""The data source against a real server on this machine: good bodies, broken ones, and who gets to see the token."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest

from ftcore.contracts import DataRequest, Locator
from ftcore.errors import ConfigError, DataError
from ftcore.testing import PluginSetup, check_plugin
from http_jsonl_ftcore import ftcore_load_dataset
from http_jsonl_ftcore.settings import HttpJsonlSettings

ROWS = [{"question": f"What is {number} plus one?", "answer": f"{number + 1}."} for number in range(2500)]
TOKEN = "tulips-0123456789"


def lines(rows: Any = ROWS) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def load(data_id: str, **settings: Any) -> Any:
    locator = Locator(data_id, "", {})
    request = DataRequest(locator, "training", num_proc=1, seed=0, base_dir=Path())
    return ftcore_load_dataset(request, HttpJsonlSettings(**{"retry_wait": 0.0, "timeout": 5.0, **settings}))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FTCORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_all_rows_in_their_order(server: Any) -> None:
    data = load(server.serve("/train.jsonl?month=10&part=a", lines()))
    assert data.to_list() == ROWS
    assert server.asked[0][0] == "/train.jsonl?month=10&part=a"
    assert server.asked[0][1]["Accept-Encoding"] == "gzip"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("headers", [{"Content-Encoding": "gzip"}, {"Content-Type": "application/gzip"}])
def test_gzip_of_the_server_or_of_the_file(server: Any, answer: Any, headers: Any, chunked: bool) -> None:
    body = gzip.compress(lines())
    assert load(server.serve("/t", answer(body, headers=headers, chunked=chunked))).to_list() == ROWS


CUT = {
    "by length": {"sent": 9000},
    "in chunks": {"sent": 9000, "chunked": True},
    "at the end of a line": {"sent": len(lines(ROWS[:100]))},
    "before the first byte": {"sent": 0},
}


@pytest.mark.parametrize("cut", CUT.values(), ids=CUT)
def test_a_body_that_is_cut_off_is_an_error_and_not_fewer_rows(server: Any, answer: Any, cut: Any, cache: Path) -> None:
    data_id = server.serve("/t", answer(lines(), **cut))
    with pytest.raises(DataError, match=r"cannot be downloaded: the body was cut off in the middle \(3 attempts\)"):
        load(data_id, retries=2)
    assert len(server.asked) == 3
    assert not [path for path in cache.rglob("*") if path.is_file()]
    server.serve("/t", answer(lines(), **cut), lines())
    assert load(data_id, retries=1).num_rows == 2500


def test_a_body_whose_end_cannot_be_told_is_refused(server: Any, answer: Any) -> None:
    with pytest.raises(DataError, match="does not say how long the body is"):
        load(server.serve("/t", answer(lines(), length=False)))


def test_gzip_that_is_cut_off_before_it_is_sent(server: Any) -> None:
    with pytest.raises(DataError, match="gzip data are damaged or cut off behind line"):
        load(server.serve("/t", gzip.compress(lines())[:-2000]))


def test_what_may_pass_is_tried_again(server: Any, answer: Any) -> None:
    busy, broken = answer(status=429, headers={"Retry-After": "0"}), answer(status=503)
    assert load(server.serve("/t", busy, broken, lines())).num_rows == 2500
    with pytest.raises(DataError, match=r"HTTP 503 Service Unavailable \(2 attempts\)\. Try again later"):
        load(server.serve("/t", broken), retries=1)


def test_the_wait_doubles_and_the_servers_own_counts(server: Any, answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    answers = [answer(status=503), answer(status=503), answer(status=503, headers={"Retry-After": "7"})]
    with pytest.raises(DataError):
        load(server.serve("/t", *answers, answer(status=503)), retry_wait=2.0, retries=4)
    assert [wait for wait in waits if wait] == [2.0, 4.0, 7.0, 16.0]


def test_a_server_that_says_nothing(server: Any, answer: Any) -> None:
    with pytest.raises(DataError, match=r"nothing came for 0\.2 seconds"):
        load(server.serve("/t", answer(lines(), delay=1.0)), timeout=0.2, retries=0)


def test_no_server_and_no_such_path(server: Any) -> None:
    with pytest.raises(DataError, match=r"no connection to 127\.0\.0\.1:1: Connection refused") as caught:
        load("http-jsonl:http://127.0.0.1:1/t", retries=0)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"HTTP 404 Not Found\. Check the address"):
        load(f"http-jsonl:{server.url}/none")
    assert len(server.asked) == 1  # what will not pass is not tried again


def test_what_has_not_changed_is_not_sent_again(server: Any, answer: Any, cache: Path) -> None:
    data_id = server.serve("/t", answer(lines(), headers={"ETag": '"one"'}))
    first, again = load(data_id), load(data_id)
    assert [headers.get("If-None-Match") for _, headers in server.asked] == [None, '"one"']
    assert again.cache_files == first.cache_files
    server.serve("/t", answer(lines(ROWS[:5]), headers={"ETag": '"two"'}))
    assert load(data_id).num_rows == 5
    assert first.to_list() == ROWS  # a run that still reads the old rows goes on reading them
    server.serve("/t", answer(lines(), headers={"ETag": '"three"'}))
    assert load(data_id).cache_files == first.cache_files
    load(data_id)
    assert server.asked[-1][1]["If-None-Match"] == '"three"'
    assert len(list(cache.glob("http-jsonl/*/about.json"))) == 2


def test_the_cache_gives_nothing_to_whom_the_server_gives_nothing(server: Any, answer: Any) -> None:
    data_id = server.serve("/t", answer(lines(), headers={"ETag": '"one"'}))
    load(data_id)
    server.serve("/t", answer(status=403))
    with pytest.raises(DataError, match="HTTP 403"):
        load(data_id)


def test_the_token_is_sent_and_never_shown(
    server: Any, answer: Any, monkeypatch: pytest.MonkeyPatch, ftcore_project: Any
) -> None:
    data_id = server.serve("/t", answer(status=401))
    with pytest.raises(DataError, match=r"HTTP 401 Unauthorized\. Put a token into DATA_PASS"):
        load(data_id, token_variable="DATA_PASS")
    monkeypatch.setenv("DATA_PASS", f"{TOKEN}\n")
    with pytest.raises(DataError, match="Check the token in DATA_PASS") as caught:
        load(data_id, token_variable="DATA_PASS")
    assert server.asked[-1][1]["Authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in str(caught.value)

    server.serve("/t", lines(ROWS[:4]))
    run = ftcore_project.run(
        {"fine_tuner": {"training_data_id": data_id}, "http-jsonl": {"token_variable": "DATA_PASS"}}
    )
    assert run.manifest["data"]["training_rows"] == 4
    written = b"".join(path.read_bytes() for path in ftcore_project.path.rglob("*") if path.is_file())
    assert TOKEN.encode() not in written + run.output.encode()


def test_another_host_gets_no_token(server: Any, answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_JSONL_TOKEN", TOKEN)
    elsewhere = server.url.replace("127.0.0.1", "localhost")
    server.serve("/there", lines())
    assert load(server.serve("/t", answer(status=302, headers={"Location": f"{elsewhere}/there"}))).num_rows == 2500
    assert ["Authorization" in headers for _, headers in server.asked] == [True, False]


def test_a_token_does_not_travel_unencrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_JSONL_TOKEN", TOKEN)
    with pytest.raises(ConfigError, match="is not encrypted") as caught:
        load("http-jsonl:http://data.acme.example/t.jsonl")
    assert TOKEN not in str(caught.value)
    monkeypatch.setenv("HTTP_JSONL_TOKEN", f"{TOKEN}\nX-Evil: 1")
    with pytest.raises(ConfigError, match="holds no token"):
        load("http-jsonl:https://data.acme.example/t.jsonl")


BAD = {
    b'{"a": 1}\n{"a": \n': "line 2 is not valid JSON: Expecting value",
    b'{"a": 1}\n[1]\n': "line 2 is not an object",
    b'{"a": 1}\n{"a": "x"}\n': 'the column "a" of "http.*" holds values of different types',
    b'{"a": 1}\n' * 1000
    + b'{"a": "x"}\n': 'the column "a" of "http.*" changes its type: it is a number at first and text',
    b'{"a": 1}\n{"a": "\xff"}\n': "it is not UTF-8",
    b"\n \n": "has no rows",
    b"{}\n": "has no rows",
    b'{"a": 1' + b"0" * 30 + b"}\n": 'the column "a" of "http.*" holds a number that does not fit into 64 bits',
    b"<html>": "line 1 is not valid JSON",
}


@pytest.mark.parametrize(("body", "message"), BAD.items(), ids=range(len(BAD)))
def test_what_is_no_json_lines(server: Any, body: bytes, message: str, cache: Path) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(server.serve("/t", body))
    assert "\n" not in str(caught.value)
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_columns_that_come_late_or_turn_out_wider(server: Any) -> None:
    rows = [{"a": 1, "b": None} for _ in range(1000)] + [{"b": "text", "c": [{"d": 1}]}, {"a": 0.5}]
    data = load(server.serve("/t", b"\xef\xbb\xbf" + lines(rows).replace(b"\n", b"\r\n\n")))
    assert data[0] == {"a": 1.0, "b": None, "c": None}
    assert data[1000] == {"a": None, "b": "text", "c": [{"d": 1}]}
    assert data[1001]["a"] == 0.5


@pytest.mark.parametrize(
    "data_id",
    ["http-jsonl:data.jsonl", "http-jsonl:ftp://h/d", "http-jsonl:https://", "http-jsonl:http://h:x/", "http-jsonl:http://ada:carrots@h/d"],
)  # fmt: skip
def test_an_id_that_is_no_address_is_found_by_check(ftcore_project: Any, data_id: str) -> None:
    ftcore_project.config({"fine_tuner": {"training_data_id": data_id}})
    done = ftcore_project.ftcore("check", "config.toml")
    assert done.exit_code == 2
    assert "cannot be read" in done.output or "has a user in it" in done.output
    assert "carrots" not in done.output


def test_the_readmes_settings(ftcore_project: Any) -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    ftcore_project.config(readme.partition("```toml\n")[2].partition("```")[0])
    done = ftcore_project.ftcore("check", "config.toml")
    assert done.exit_code == 0, done.output


def test_it_keeps_the_rules(server: Any) -> None:
    large = [{"question": "How many?", "answer": f"{number} of them. " * 30} for number in range(30_000)]
    there, many = server.serve("/t", lines()), server.serve("/large", gzip.compress(lines(large), 1))
    config = {"http-jsonl": {"retries": 0}}
    missing = f"http-jsonl:{server.url}/none"
    check_plugin("http-jsonl", setup=PluginSetup(config=config, data=there, missing=missing, large=many))
