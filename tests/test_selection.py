"""Who serves each stage, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftcore.contracts import DataView
from ftcore.errors import ConfigError, FormatMismatch, InvalidConfig, PluginError
from ftcore.plugins import discover
from ftcore.plugins.selection import choices, data_plugin, formatter_for, saver_names
from ftcore.settings.data import DataSettings


def chosen(config: Any, plugins: Any) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for choice in choices(config, plugins):
        found.setdefault(choice.stage, []).append((choice.plugin, choice.why))
    return found


def test_the_defaults(load: Any, plugins: Any) -> None:
    found = chosen(load(), plugins)
    assert found["namer"] == [("naming", "the only one installed")]
    assert found["launcher"] == [("local", "the default")]
    assert found["trainer"] == [("sft", "the default")]
    assert found["saver"] == [("local", "the default")]
    assert found["data"] == [("file", 'training_data_id: "d.jsonl" is written like a path')]
    assert "reporter" not in found
    assert found["loader"][0][0] in ("transformers", "unsloth")
    assert found["loader"][0][1].startswith("auto: ")
    assert found["formatter"][0][0] == ""


def test_what_the_configuration_names(load: Any, plugins: Any) -> None:
    text = 'report_to = ["tensorboard", "mlflow"]\nvalidation_data_id = "hf:u/d"\npush_to_hub = true\n'
    config = load(text + '[stages]\nlauncher = "local"\n', "fine_tuner.base_model_id=smollm2:135m-instruct")
    found = chosen(config, plugins)
    assert found["reporter"] == [("tensorboard", "named in report_to"), ("mlflow", "named in report_to")]
    assert found["data"][1] == ("hf", 'validation_data_id: the prefix of "hf:u/d"')
    assert found["saver"] == [("local", "the default"), ("hub", "push_to_hub is true")]
    assert found["launcher"] == [("local", "named in [stages] launcher")]
    assert found["model"] == [("smollm2", 'the prefix of "smollm2:135m-instruct"')]
    assert saver_names(load('[stages]\nsavers = ["hub"]\n')) == ["hub"]


@pytest.mark.parametrize(
    ("locator", "plugin"),
    [
        ("here.bin", "file"),
        ("beside", "file"),
        ("no-such.jsonl", "file"),
        ("no-such.CSV?split=x", "file"),
        ("a/b/c", "file"),
        ("./x", "file"),
        ("~/x", "file"),
        ("~nobody-of-that-name/x", "file"),
        ("user/data", "hf"),
        ("data?split=train", "hf"),
        ("acme:anything", "acme"),
        ("x" * 4000, "hf"),
    ],
)
def test_data_sources_follow_the_id(locator: str, plugin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here.bin").touch()
    (tmp_path / "configs" / "beside").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert data_plugin(locator, tmp_path / "configs")[0] == plugin


def test_ids_that_cannot_be_read_have_their_place(load: Any, plugins: Any) -> None:
    with pytest.raises(ConfigError, match=r":3: training_data_id: the id \"acme:x\?y\" cannot be read: "):
        choices(load('[fine_tuner]\nbase_model_id = "m"\ntraining_data_id = "acme:x?y"\n', whole=True), plugins)


def test_all_that_cannot_serve_are_named_at_once(load: Any, plugins: Any) -> None:
    config = load('report_to = "nobody"\n[stages]\ntrainer = "dpo"\nlauncher = "moon"\n')
    with pytest.raises(InvalidConfig) as caught:
        choices(config, plugins)
    assert caught.value.exit_code == 3
    assert [line.partition(" = ")[2].partition(" ")[0] for line in caught.value.lines] == [
        '"moon"',
        '"dpo"',
        '"nobody"',
    ]


# Bids

BIDDER = (
    "from ftcore import hookimpl\nfrom ftcore.contracts import Bid\n"
    "@hookimpl\ndef ftcore_bid(stage, data):\n    return {answer}\n"
    "@hookimpl\ndef ftcore_make_loader(): ...\n@hookimpl\ndef ftcore_make_formatter(): ...\n"
)


def bidder(answer: str) -> str:
    return BIDDER.format(answer=answer)


def test_the_highest_bid_wins(install: Any, load: Any) -> None:
    install(
        "acme",
        {"bid_one": bidder("Bid(99, 'I drive this machine') if stage == 'loader' else None")},
        {"acme": "bid_one"},
    )
    ((name, why),) = chosen(load(), discover())["loader"]
    assert name == "acme"
    assert why.partition(";")[0] == "auto: I drive this machine"


def test_who_declines_says_why(install: Any, load: Any) -> None:
    answer = "Declined('the moon is not full') if stage == 'loader' else None"
    install(
        "acme", {"bid_declined": "from ftcore.contracts import Declined\n" + bidder(answer)}, {"acme": "bid_declined"}
    )
    ((name, why),) = chosen(load(), discover())["loader"]
    assert name in ("transformers", "unsloth")
    assert "; acme stands back: the moon is not full" in why


def test_equal_bids_are_an_error_that_names_both(install: Any, load: Any) -> None:
    source = bidder("Bid(99, 'me') if stage == 'loader' else None")
    install("acme", {"bid_a": source, "bid_b": source}, {"acme": "bid_a", "beta": "bid_b"})
    with pytest.raises(PluginError) as caught:
        choices(load(), discover())
    assert str(caught.value) in (
        '[stages] loader is auto, and acme and beta offer to serve it equally. Choose one: [stages] loader = "acme"',
        '[stages] loader is auto, and beta and acme offer to serve it equally. Choose one: [stages] loader = "beta"',
    )


def test_a_bid_that_is_none_is_blamed(install: Any, load: Any) -> None:
    install("acme", {"bid_int": bidder("99")}, {"acme": "bid_int"})
    with pytest.raises(PluginError, match=r"plugin 'acme' \(acme 1.2.3\) broke its contract: ftcore_bid must return a"):
        choices(load(), discover())


def test_a_bid_that_fails_is_fatal_only_for_its_own_offer(install: Any, load: Any) -> None:
    install("acme", {"bid_bad": bidder("1 / 0")}, {"acme": "bid_bad"})
    assert chosen(load('[stages]\nloader = "transformers"\n'), discover())["loader"][0][0] == "transformers"


def test_no_loader_names_the_broken_ones(load: Any, install: Any) -> None:
    install("acme", {"bid_none": "1 / 0"}, {"acme": "bid_none"})
    plugins = discover(disabled=["transformers", "unsloth"])
    with pytest.raises(PluginError) as caught:
        choices(load(), plugins)
    assert "no plugin offers to load the model: [stages] loader is auto; broken is " in str(caught.value)
    assert "plugin 'acme' (acme 1.2.3): its import failed: ZeroDivisionError" in str(caught.value)


def view(*columns: str) -> DataView:
    return DataView(columns, DataSettings(training_data_id="d"))


def test_the_formatter_is_chosen_by_the_columns(install: Any, load: Any) -> None:
    answer = "Bid(50, 'it has x') if stage == 'formatter' and 'x' in data.columns else None"
    install("acme", {"bid_format": bidder(answer)}, {"acme": "bid_format"})
    plugins = discover()
    choice = formatter_for(load(), plugins, view("x", "y"))
    assert (choice.plugin, choice.why) == ("acme", "auto: it has x")
    with pytest.raises(FormatMismatch, match="no formatter reads the columns zz, yy: installed formatters: acme"):
        formatter_for(load(), plugins, view("zz", "yy"))
    named = formatter_for(load('[stages]\nformatter = "acme"\n'), plugins, view("zz"))
    assert (named.plugin, named.why) == ("acme", "named in [stages] formatter")
