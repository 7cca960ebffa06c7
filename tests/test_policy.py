"""What a plugin gives to everybody, and what it locks: an installed package with real hooks, checked by what users read."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest

from ftcore.check import check, preflight
from ftcore.config import Config
from ftcore.config import load as load_config
from ftcore.contracts import Policy
from ftcore.errors import ConfigError, InvalidConfig, PluginError
from ftcore.plugins import Plugins, discover
from ftcore.run import runs
from ftcore.run.changes import changes, require_same_settings
from ftcore.run.pipeline import _introduce
from ftcore.run.reopen import reopen

REQUIRED = '[fine_tuner]\nbase_model_id = "m"\ntraining_data_id = "d.jsonl"\n'
HEAD = (
    "from ftcore import hookimpl\nfrom ftcore.contracts import Policy\nfrom ftcore.errors import Problem\n"
    "from ftcore.settings import Section\n"
)
BY_ACME = "plugin 'acme' (acme 1.2.3)"
NOW = datetime(2026, 11, 23, 12).astimezone()

Organisation = Callable[..., Plugins]


@pytest.fixture
def organisation(install: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Organisation:
    """Installs plugins whose policies are these expressions, with more code where it is given, and finds them."""
    monkeypatch.chdir(tmp_path)

    def make(more: str = "", **policies: str) -> Plugins:
        for name, expression in policies.items():
            body = f"@hookimpl\ndef ftcore_policy():\n{indent(f'return {expression}', '    ')}\n"
            install(name, {f"{name}_policy": HEAD + more + body}, {name: f"{name}_policy"})
        return discover()

    return make


def read(plugins: Plugins, text: str = "", *overrides: str, whole: bool = False) -> Config:
    path = Path("config.toml")
    path.write_text(text if whole else REQUIRED + text, encoding="utf-8")
    return load_config(path, plugins, overrides)


def refused(plugins: Plugins, text: str = "", *overrides: str, whole: bool = False) -> list[str]:
    with pytest.raises(InvalidConfig) as caught:
        read(plugins, text, *overrides, whole=whole)
    return list(caught.value.lines)


DEFAULTS = (
    "Policy({'mlflow': {'tracking_uri': 'http://acme', 'tags': {'org': 'acme', 'by': '${WHO:-nobody}'}}, "
    "'fine_tuner': {'report_to': 'mlflow', 'dtype': None, 'target_modules': ('q_proj', 'v_proj')}}, reason='the defaults of Acme')"
)
LOCKS = (
    "Policy({'fine_tuner': {'trust_remote_code': False, 'rank': 8}, 'mlflow': {'tags': {'org': 'acme'}}}, "
    "locked={'fine_tuner.trust_remote_code': 'security asks for it', 'mlflow.tags.org': 'billing'})"
)


# Defaults


def test_a_policy_gives_what_the_user_leaves_out(organisation: Organisation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHO", "me")
    config = read(organisation(acme=DEFAULTS))
    mlflow = config.sections["mlflow"].model_dump()
    assert mlflow["tracking_uri"] == "http://acme"
    assert mlflow["tags"] == {"org": "acme", "by": "me"}
    assert config.fine_tuner.reporters() == ["mlflow"]
    assert config.fine_tuner.target_modules == ["q_proj", "v_proj"]
    assert not config.was_given("fine_tuner", "report_to")
    assert config.locate("mlflow.tracking_uri") == f"the policy of {BY_ACME}"
    assert [ruling.where for ruling in config.ruled] == [
        "mlflow.tracking_uri", "mlflow.tags.org", "mlflow.tags.by", "fine_tuner.report_to", "fine_tuner.dtype",
        "fine_tuner.target_modules",
    ]  # fmt: skip


def test_the_user_wins_wherever_the_value_stands(organisation: Organisation) -> None:
    plugins = organisation(acme=DEFAULTS)
    Path("base.toml").write_text('[mlflow]\ntracking_uri = "http://mine"\n')
    text = f'extends = "base.toml"\n{REQUIRED}target_modules = ["k_proj"]\n[mlflow.tags]\norg = "me"\n'
    config = read(plugins, text, "fine_tuner.report_to=none", whole=True)
    mlflow = config.sections["mlflow"].model_dump()
    assert (mlflow["tracking_uri"], mlflow["tags"]) == ("http://mine", {"org": "me", "by": "nobody"})
    assert config.fine_tuner.target_modules == ["k_proj"]
    assert config.fine_tuner.reporters() == []
    assert [ruling.where for ruling in config.ruled] == ["mlflow.tags.by", "fine_tuner.dtype"]
    replaced = read(plugins, "", "mlflow.tags={ x = 'y' }")
    assert replaced.sections["mlflow"].model_dump()["tags"] == {"x": "y"}


def test_required_keys_may_come_from_a_policy(organisation: Organisation) -> None:
    plugins = organisation(acme="Policy({'fine_tuner': {'base_model_id': 'acme/m'}})")
    config = read(plugins, '[fine_tuner]\ntraining_data_id = "d"\n', whole=True)
    assert config.fine_tuner.base_model_id == "acme/m"
    assert config.folder("fine_tuner.base_model_id") == Path()


def test_a_default_gives_way_to_what_excludes_it(organisation: Organisation) -> None:
    plugins = organisation(acme="Policy({'fine_tuner': {'load_in_4bit': True}, 'run': {'name_prefix': 'acme-'}})")
    assert read(plugins).fine_tuner.load_in_4bit
    assert read(plugins).run.name_prefix == "acme-"
    assert read(plugins, "full_finetuning = true\n").fine_tuner.load_in_4bit is False
    assert read(plugins, "", "fine_tuner.load_in_8bit=true").fine_tuner.quantization() == "8bit"
    assert read(plugins, '[mlflow]\nrun_name_prefix = "mine-"\n').run.name_prefix == "mine-"


def test_what_has_no_effect_is_told_of_the_users_keys_only(organisation: Organisation) -> None:
    policy = "Policy({'fine_tuner': {'rank': 8, 'report_to': 'none'}, 'wandb': {'project': 'p'}})"
    plugins = organisation(acme=policy)
    config = read(plugins, "full_finetuning = true\nlora_alpha = 8\n")
    _, warnings = check(config, plugins)
    assert [warning for warning in warnings if "no effect" in warning] == [
        "config.toml:5: warning: lora_alpha has no effect: full_finetuning is true and there is no adapter. Remove it"
    ]


def test_settings_reach_the_policy_and_must_be_complete(install: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    source = HEAD + (
        "class S(Section):\n    'Of a team.'\n    team: str\n    'Which.'\n"
        "@hookimpl\ndef ftcore_settings(): return S\n"
        "@hookimpl\ndef ftcore_policy(settings): return Policy({'mlflow': {'experiment_name': settings.team}})\n"
    )
    install("acme", {"acme_team": source}, {"acme": "acme_team"})
    plugins = discover()
    config = read(plugins, '[acme]\nteam = "search"\n')
    assert config.sections["mlflow"].model_dump()["experiment_name"] == "search"
    assert refused(plugins) == ['config.toml: [acme] has no team, which is required. Add team = "…"']
    assert refused(plugins, "[acme]\nteam = 3\n") == [
        "config.toml:5: acme.team = 3 is not allowed: it must be a text in quotes"
    ]


# Locks


def test_a_locked_key_has_no_other_value(organisation: Organisation) -> None:
    plugins = organisation(acme=LOCKS)
    assert read(plugins).fine_tuner.rank == 8
    assert read(plugins, "rank = 4\n").fine_tuner.rank == 4
    assert not read(plugins, "trust_remote_code = false\n").fine_tuner.trust_remote_code
    locked = f"is not allowed: {BY_ACME} locks it to"
    assert refused(plugins, 'trust_remote_code = true\n[mlflow]\ntags = { org = "me" }\n') == [
        f"config.toml:4: fine_tuner.trust_remote_code = true {locked} false (security asks for it). Remove it",
        f'config.toml:6: mlflow.tags.org = "me" {locked} "acme" (billing). Remove it',
    ]
    assert refused(plugins, "", "fine_tuner.trust_remote_code=true") == [
        f"--set fine_tuner.trust_remote_code: fine_tuner.trust_remote_code = true {locked} false "
        "(security asks for it). Remove it"
    ]
    assert refused(plugins, "", "mlflow.tags={ x = 'y' }") == [
        f'--set mlflow.tags: a configuration without mlflow.tags.org is not allowed: {BY_ACME} locks it to "acme" '
        "(billing). Remove it"
    ]


def test_no_way_of_writing_goes_around_a_lock(organisation: Organisation, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = "Policy({'run': {'name_prefix': 'acme-'}, 'fine_tuner': {'rank': 8}}, locked={'run.name_prefix': 'order', 'fine_tuner.rank': ''})"
    plugins = organisation(acme=policy)
    monkeypatch.setenv("RANK", "16")
    Path("base.toml").write_text("[fine_tuner]\nrank = 16\n")
    locked = f"is not allowed: {BY_ACME} locks it to"
    assert refused(plugins, 'rank = "${RANK}"\n') == [f"config.toml:4: fine_tuner.rank = 16 {locked} 8. Remove it"]
    extended = f'extends = "base.toml"\n{REQUIRED}'
    assert refused(plugins, extended, whole=True) == [f"base.toml:2: fine_tuner.rank = 16 {locked} 8. Remove it"]
    assert refused(plugins, '[mlflow]\nrun_name_prefix = "me-"\n') == [
        f'config.toml:5: mlflow.run_name_prefix = "me-" {locked} "acme-" (order). Remove it'
    ]
    monkeypatch.setenv("RANK", "8")
    assert read(plugins, 'rank = "${RANK}"\n[mlflow]\nrun_name_prefix = "acme-"\n').run.name_prefix == "acme-"


def test_a_table_may_be_locked_as_a_whole(organisation: Organisation) -> None:
    plugins = organisation(acme="Policy({'mlflow': {'tags': {'a': 'b'}}}, locked={'mlflow.tags': 'all of it'})")
    assert read(plugins, '[mlflow]\ntags = { a = "b" }\n').sections["mlflow"].model_dump()["tags"] == {"a": "b"}
    assert refused(plugins, '[mlflow]\ntags = { c = "d" }\n') == [
        f'config.toml:5: mlflow.tags = {{ c = "d" }} is not allowed: {BY_ACME} locks it to {{ a = "b" }} '
        "(all of it). Remove it"
    ]


def test_what_a_lock_excludes_is_an_error(organisation: Organisation) -> None:
    plugins = organisation(
        acme="Policy({'fine_tuner': {'load_in_4bit': True}}, locked={'fine_tuner.load_in_4bit': 'small GPUs'})"
    )
    assert refused(plugins, "full_finetuning = true\n") == [
        f"the policy of {BY_ACME}: load_in_4bit and full_finetuning are both set: quantized weights cannot be trained. "
        "Remove load_in_4bit or full_finetuning"
    ]


def test_a_secret_in_a_locked_value_is_not_shown(organisation: Organisation, ftcore: Any, monkeypatch: Any) -> None:
    organisation(
        acme="Policy({'mlflow': {'tracking_uri': 'http://u:${ACME_TOKEN}@h'}}, locked={'mlflow.tracking_uri': 'ours'})"
    )
    monkeypatch.setenv("ACME_TOKEN", "swordfish-7")
    Path("config.toml").write_text(f'{REQUIRED}[mlflow]\ntracking_uri = "http://mine"\n')
    outcome = ftcore("check", "config.toml")
    assert outcome.code == 2
    assert outcome.errors == [
        'error: config.toml:5: mlflow.tracking_uri = "http://mine" is not allowed: '
        f'{BY_ACME} locks it to "http://***@h" (ours). Remove it'
    ]
    shown = ftcore("check", "config.toml", "--origins", "--set", "mlflow.tracking_uri=http://u:swordfish-7@h")
    assert shown.code == 0
    assert "swordfish" not in shown.out


# Several policies


def test_two_policies_that_differ_are_an_error_naming_both(organisation: Organisation) -> None:
    first = "Policy({'fine_tuner': {'rank': 8, 'seed': 1}, 'mlflow': {'tags': {'a': 'b'}}})"
    second = "Policy({'fine_tuner': {'rank': 16, 'seed': 1}, 'mlflow': {'tags': {'c': 'd'}}})"
    plugins = organisation(acme=first, beta=second)
    by_beta = "plugin 'beta' (beta 1.2.3)"
    (line,) = refused(plugins)
    values = {f"{BY_ACME} gives fine_tuner.rank the value 8", f"{by_beta} gives fine_tuner.rank the value 16"}
    assert sum(value in line for value in values) == 1
    assert BY_ACME in line
    assert by_beta in line
    assert line.endswith("two policies that differ. Write the key into your file")
    settled = read(plugins, "rank = 4\n")
    assert (settled.fine_tuner.rank, settled.fine_tuner.seed) == (4, 1)
    assert settled.sections["mlflow"].model_dump()["tags"] == {"a": "b", "c": "d"}


def test_a_user_cannot_settle_two_locks(organisation: Organisation) -> None:
    lock = "locked={'fine_tuner.rank': 'so'}"
    plugins = organisation(
        acme=f"Policy({{'fine_tuner': {{'rank': 8}}}}, {lock})", beta="Policy({'fine_tuner': {'rank': 16}})"
    )
    lines = refused(plugins, "rank = 8\n")
    assert len(lines) == 1
    assert "two policies that differ. Leave one of them out (FTCORE_DISABLE=" in lines[0]


# Wrong policies


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ("{'fine_tuner': {}}", "broke its contract: ftcore_policy must return a Policy or None and returned a dict."),
        ("Policy({'fine_tuner': {'rank': object()}})", "broke its contract: its policy cannot be written as TOML: it has a object."),
        ("Policy({'fine_tuner': 3})", "broke its contract: its policy cannot be written as TOML: "),
        ("Policy(locked={'fine_tuner.rank': 'x'})", "failed in ftcore_policy: ValueError: fine_tuner.rank is locked and has no value in the policy."),
        ("Policy({'run': {'name': 'x'}}, locked={'run': 'x'})", "failed in ftcore_policy: ValueError: run is locked, and a policy locks keys, not whole sections."),
        ("1 / 0", "failed in ftcore_policy: ZeroDivisionError: division by zero."),
    ],
)  # fmt: skip
def test_a_policy_that_is_none_stops_everything(organisation: Organisation, policy: str, why: str) -> None:
    plugins = organisation(acme=policy)
    with pytest.raises(PluginError) as caught:
        read(plugins)
    assert str(caught.value).startswith(f"{BY_ACME} {why}")


def test_wrong_values_in_a_policy_name_it(organisation: Organisation) -> None:
    plugins = organisation(acme="Policy({'fine_tuner': {'rank': 0, 'rnk': 1, 'seed': '${NOBODY}'}})")
    assert sorted(refused(plugins)) == [
        f"the policy of {BY_ACME}: [fine_tuner] has no key 'rnk'. Did you mean rank?",
        f"the policy of {BY_ACME}: fine_tuner.rank = 0 is not allowed: it must be at least 1",
        f"the policy of {BY_ACME}: fine_tuner.seed reads the environment variable NOBODY, which is not set. "
        "Set it, or give a default: ${NOBODY:-value}",
    ]


def test_a_wrong_key_beside_a_policys_is_not_blamed_on_it(organisation: Organisation) -> None:
    assert refused(organisation(acme=LOCKS), "", "mlflow.tags.org=me") == [
        "--set mlflow.tags.org: [mlflow] has no key 'tags.org'. Give the whole table: --set 'mlflow.tags={ org = … }'"
    ]


def test_none_is_no_policy(organisation: Organisation) -> None:
    assert read(organisation(acme="None")).policies == ()


def test_sections_of_plugins_that_are_not_there_are_left_out(organisation: Organisation, ftcore: Any) -> None:
    organisation(acme="Policy({'tracker': {'url': 'x'}, 'fine_tuner': {'rank': 8}}, locked={'tracker.url': 'so'})")
    Path("config.toml").write_text(REQUIRED)
    outcome = ftcore("check", "config.toml")
    assert outcome.code == 0
    assert f"tracker.url of the policy of {BY_ACME} is left out: the plugin 'tracker' is not installed" in outcome.out


def test_a_mistyped_section_gets_a_suggestion(organisation: Organisation, ftcore: Any) -> None:
    organisation(acme="Policy({'fine_tunr': {'rank': 8}})")
    Path("config.toml").write_text(REQUIRED)
    assert "the plugin 'fine_tunr' is not installed; did you mean [fine_tuner]?" in ftcore("check", "config.toml").out


def test_a_stage_that_a_policy_chooses_says_so(organisation: Organisation) -> None:
    plugins = organisation(acme="Policy({'stages': {'trainer': 'sft', 'loader': 'nobody'}})")
    config = read(plugins)
    with pytest.raises(PluginError) as caught:
        check(config, plugins)
    assert str(caught.value).startswith(
        f'the policy of {BY_ACME}: [stages] loader = "nobody" names no installed plugin'
    )
    selected, _ = check(read(plugins, "", "stages.loader=transformers"), plugins)
    (why,) = [choice.why for choice in selected if choice.stage == "trainer"]
    assert why == f"named in [stages] trainer by the policy of {BY_ACME}"


# Rules


RULES = """
ALLOWED = ("acme/small", "acme/large")

@hookimpl
def ftcore_check(config):
    if config.fine_tuner.base_model_id not in ALLOWED:
        yield Problem("fine_tuner.base_model_id", f"{config.fine_tuner.base_model_id} was not reviewed", "Choose one of " + ", ".join(ALLOWED))
    if config.fine_tuner.training_data_id == "raise":
        raise RuntimeError("the register cannot be read")

@hookimpl
def ftcore_preflight(config, run_name):
    if not run_name.startswith("team-"):
        yield Problem("run.name", f"the run's name {run_name} does not begin with team-", "Set name_prefix")
"""


def test_rules_name_the_key_the_line_and_the_plugin(organisation: Organisation) -> None:
    plugins = organisation(RULES, acme="Policy()")
    with pytest.raises(InvalidConfig) as caught:
        check(read(plugins), plugins)
    assert caught.value.lines == (
        f"config.toml:2: m was not reviewed, says {BY_ACME}. Choose one of acme/small, acme/large",
    )
    config = read(plugins, "", "fine_tuner.base_model_id=acme/small")
    selected, _ = check(config, plugins)
    assert preflight(config, plugins, selected, "team-1") == []
    with pytest.raises(InvalidConfig) as named:
        preflight(config, plugins, selected, "x")
    assert named.value.lines == (
        f"config.toml: the run's name x does not begin with team-, says {BY_ACME}. Set name_prefix",
    )


def test_rules_that_cannot_be_looked_at_stop_the_run(organisation: Organisation) -> None:
    plugins = organisation(RULES, acme="Policy()")
    config = read(plugins, "", "fine_tuner.base_model_id=acme/small", "fine_tuner.training_data_id=raise")
    with pytest.raises(InvalidConfig, match="failed in ftcore_check: RuntimeError: the register cannot be read"):
        check(config, plugins)


def test_locks_and_rules_are_told_in_one_round(organisation: Organisation, ftcore: Any) -> None:
    organisation(RULES, acme=LOCKS)
    Path("config.toml").write_text(f'{REQUIRED}trust_remote_code = true\n[stages]\ntrainer = "sfft"\n')
    for command in ("check", "run"):
        outcome = ftcore(command, "config.toml", "--set", "fine_tuner.rank=4")
        assert outcome.code == 2
        assert outcome.errors == [
            f"error: config.toml:2: m was not reviewed, says {BY_ACME}. Choose one of acme/small, acme/large",
            f"error: config.toml:4: fine_tuner.trust_remote_code = true is not allowed: {BY_ACME} locks it to false "
            "(security asks for it). Remove it",
            'error: config.toml:6: [stages] trainer = "sfft" names no installed plugin: plugins that serve the stage '
            'trainer here: sft. Did you mean "sft"?',
        ]


def test_rules_judge_what_is_in_force_when_the_lock_is_kept(organisation: Organisation, ftcore: Any) -> None:
    judged = (
        "@hookimpl\ndef ftcore_check(config):\n    if config.fine_tuner.trust_remote_code:\n"
        "        yield Problem('fine_tuner.trust_remote_code', 'no code from outside')\n"
        "    if config.was_given('fine_tuner', 'trust_remote_code'):\n        yield Problem('', 'given')\n"
    )
    organisation(judged, acme=LOCKS)
    Path("config.toml").write_text(REQUIRED)
    outcome = ftcore("check", "config.toml", "--set", "fine_tuner.trust_remote_code=true")
    (line,) = outcome.errors
    assert line.startswith(
        "error: --set fine_tuner.trust_remote_code: fine_tuner.trust_remote_code = true is not allowed"
    )


def test_rules_are_not_asked_where_something_else_is_wrong(organisation: Organisation, ftcore: Any) -> None:
    organisation(RULES, acme=LOCKS)
    Path("config.toml").write_text(f"{REQUIRED}trust_remote_code = true\nepoch = 3\n")
    told = ftcore("check", "config.toml").errors
    assert [line.split(":")[2] for line in told] == ["4", "5"], "what a mistyped key was to be, no rule can know"


# What is shown and kept


def test_check_shows_what_was_changed_by_whom(organisation: Organisation, ftcore: Any) -> None:
    organisation(acme=LOCKS)
    Path("config.toml").write_text(REQUIRED)
    outcome = ftcore("check", "config.toml", "--origins")
    assert outcome.code == 0
    head, _, table = outcome.out.partition("\n[")
    assert head.splitlines()[1:] == [
        f"fine_tuner.trust_remote_code = false by the policy of {BY_ACME}, locked: security asks for it",
        f"fine_tuner.rank = 8 by the policy of {BY_ACME}",
        f'mlflow.tags.org = "acme" by the policy of {BY_ACME}, locked: billing',
    ]
    lines = [" ".join(line.split()) for line in table.splitlines()]
    assert f"rank = 8 # the policy of {BY_ACME}" in lines
    assert f"trust_remote_code = false # the policy of {BY_ACME}, locked: security asks for it" in lines
    Path("config.toml").write_text(f"{REQUIRED}trust_remote_code = false\n")
    facts = json.loads(ftcore("check", "config.toml", "--origins", "--json").out)
    values = {value["where"]: value for value in facts["values"]}
    assert values["fine_tuner.trust_remote_code"]["kind"] == "file"
    assert values["fine_tuner.trust_remote_code"]["locked"] == BY_ACME
    assert values["fine_tuner.rank"]["kind"] == "policy"
    assert {ruling["where"]: ruling["in_force"] for ruling in facts["policies"]} == {
        "fine_tuner.trust_remote_code": False,
        "fine_tuner.rank": True,
        "mlflow.tags.org": True,
    }


def test_without_the_plugin_there_is_no_policy_and_that_is_said(
    organisation: Organisation, ftcore: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    organisation(acme=LOCKS)
    monkeypatch.setenv("FTCORE_DISABLE", "acme")
    Path("config.toml").write_text(f"{REQUIRED}trust_remote_code = true\n")
    outcome = ftcore("check", "config.toml")
    assert outcome.code == 0
    assert f"warning: {BY_ACME} is disabled (FTCORE_DISABLE): if it has a policy, that does not count" in outcome.errors
    monkeypatch.setenv("FTCORE_DISABLE", "wandb")
    assert not [line for line in ftcore("check", "config.toml", "--set", "fine_tuner.trust_remote_code=false").errors if "policy" in line]  # fmt: skip


@pytest.fixture
def begun(organisation: Organisation) -> tuple[Plugins, runs.ActiveRun]:
    """A run directory of a configuration with a policy."""
    plugins = organisation(acme="Policy({'fine_tuner': {'rank': 8, 'seed': 7}, 'mlflow': {'tracking_uri': 'http://acme'}}, locked={'fine_tuner.seed': 'so', 'mlflow.tracking_uri': 'ours'})")  # fmt: skip
    config = read(plugins)
    selected, _ = check(config, plugins)
    active = runs.create(config, plugins, selected, "r", NOW)
    _introduce(active, config)
    active.close()
    return plugins, active


def test_the_run_directory_has_all_of_it(begun: Any) -> None:
    _, active = begun
    facts = json.loads((active.dir / "manifest.json").read_text())
    assert facts["policies"] == {
        "acme": {
            "distribution": "acme",
            "version": "1.2.3",
            "gives": {"fine_tuner.rank": 8, "fine_tuner.seed": 7, "mlflow.tracking_uri": "http://acme"},
            "locked": {"fine_tuner.seed": "so", "mlflow.tracking_uri": "ours"},
        }
    }
    assert facts["chosen"] == {"fine_tuner": ["base_model_id", "training_data_id"]}
    assert facts["origins"]["fine_tuner.rank"] == f"the policy of {BY_ACME}"
    assert facts["origins"]["fine_tuner.base_model_id"] == "config.toml:2"
    written = (active.dir / "config.toml").read_text()
    assert "rank = 8\n" in written
    assert 'tracking_uri = "http://acme"\n' in written
    line = "policy     acme gives fine_tuner.rank, fine_tuner.seed (locked), mlflow.tracking_uri (locked)\n"
    assert line in (active.dir / "run.log").read_text()


def test_a_run_that_goes_on_without_the_policy_is_stopped_where_it_matters(begun: Any) -> None:
    plugins, active = begun
    facts = dict(active.facts)
    today = read(plugins)
    selected, _ = check(today, plugins)
    assert changes(active.dir, facts, today, plugins, selected) == []
    bare = discover(disabled=["acme"])
    found = changes(active.dir, facts, read(bare), bare, selected)
    assert [(str(change), change.matters) for change in found] == [
        ("fine_tuner.rank was 8 by the policy of acme (acme 1.2.3) and is 16", True),
        ("fine_tuner.seed was 7 by the policy of acme (acme 1.2.3) and is 42", True),
        ('mlflow.tracking_uri was "http://acme" by the policy of acme (acme 1.2.3) and is "null"', False),
        (
            "the policy of acme was that of acme 1.2.3, which gives fine_tuner.rank = 8, fine_tuner.seed = 7, "
            'mlflow.tracking_uri = "http://acme" and is nothing',
            False,
        ),
    ]


def test_a_launched_process_without_the_policy_does_not_train_otherwise(begun: Any) -> None:
    plugins, active = begun
    selected, _ = check(read(plugins), plugins)
    require_same_settings(active.dir, read(plugins), plugins, selected)
    bare = discover(disabled=["acme"])
    with pytest.raises(ConfigError) as caught:
        require_same_settings(active.dir, read(bare), bare, selected)
    assert str(caught.value) == (
        "this process has other settings than the run that it belongs to: fine_tuner.rank was 8 by the policy of acme "
        "(acme 1.2.3) and is 16; fine_tuner.seed was 7 by the policy of acme (acme 1.2.3) and is 42. Install the same "
        "plugins, and set the same variables, wherever the run is launched to"
    )


def test_a_run_directory_keeps_what_it_was_begun_with(begun: Any, install: Any) -> None:
    _, active = begun
    later = HEAD + (
        "@hookimpl\ndef ftcore_policy():\n    return Policy({'mlflow': {'tracking_uri': 'http://moved'}, 'sft': {'fast_cpu': False}}, "
        "locked={'mlflow.tracking_uri': 'it moved'})\n"
    )
    install("beta", {"beta_policy": later}, {"beta": "beta_policy"})
    plugins = discover(disabled=["acme"])
    again = reopen(active.dir, plugins)
    again.active.close()
    assert again.config.sections["mlflow"].model_dump()["tracking_uri"] == "http://acme"
    assert again.config.sections["sft"].model_dump()["fast_cpu"] is True
    assert again.config.ruled == []
    moved = reopen(active.dir, plugins, ["mlflow.tracking_uri=http://moved"])
    moved.active.close()
    with pytest.raises(InvalidConfig) as caught:
        reopen(active.dir, plugins, ["mlflow.tracking_uri=http://elsewhere"])
    assert caught.value.lines == (
        '--set mlflow.tracking_uri: mlflow.tracking_uri = "http://elsewhere" is not allowed: '
        "plugin 'beta' (beta 1.2.3) locks it to \"http://moved\" (it moved). Remove it",
    )


def test_a_run_directory_is_older_than_a_plugin_that_must_be_configured(begun: Any, install: Any) -> None:
    _, active = begun
    source = HEAD + (
        "class S(Section):\n    'Of a team.'\n    team: str\n    'Which.'\n"
        "@hookimpl\ndef ftcore_settings(): return S\n"
        "@hookimpl\ndef ftcore_policy(settings): return Policy({'mlflow': {'experiment_name': settings.team}})\n"
    )
    install("beta", {"beta_team": source}, {"beta": "beta_team"})
    reopened = reopen(active.dir, discover(), ["mlflow.experiment_name=x"])
    reopened.active.close()
    assert reopened.active.settings["mlflow.experiment_name"] == "x"


def test_the_type_is_frozen_and_empty_by_default() -> None:
    policy = Policy()
    assert (policy.values, policy.locked, policy.reason) == ({}, {}, "")
    with pytest.raises(AttributeError):
        policy.reason = "x"  # type: ignore[misc]
