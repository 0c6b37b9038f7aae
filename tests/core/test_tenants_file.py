"""The file of teams and tenants: what it may say, and every fault with its place."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, structs

from gateway.core.tenancy import MOST
from gateway.core.tenants_file import LIMITS, MAX_FAULTS, read_tenants_file
from gateway.core.tenants_plan import TenantsFile, WantedTeam, WantedTenant
from gateway.settings.tree import read_tree

WHOLE = """\
teams:
  - name: sales
tenants:
  - name: shop
    team: sales
    state: suspended
    require_idempotency_key: true
    guaranteed_per_minute: 20
    implicit_window_s: null
    metadata:
      defaults: {channel: web, weights: [1, 2.50, -1e-7], on: yes, none: ~, day: 2026-01-31, "12": '12'}
      enforced:
        source: {name: "a\\tb", open: true}
  - {name: till, team: sales}
"""


def faults(text: str | bytes) -> list[str]:
    content = text if isinstance(text, bytes) else text.encode()
    return [str(fault) for fault in read_tenants_file(content, "t.yaml").faults]


def wanted(text: str) -> TenantsFile:
    found = read_tenants_file(text.encode(), "t.yaml")
    assert not found.faults
    return found.wanted


def tenant(text: str) -> str:
    """A file whose one tenant has this member too, in line 4 from column 3 on."""
    return f"tenants:\n- name: shop\n  team: sales\n  {text}\n"


def test_all_that_can_be_said_is_read() -> None:
    assert wanted(WHOLE) == TenantsFile(
        teams=(WantedTeam(name="sales", place="t.yaml:2:11"),),
        tenants=(
            WantedTenant(
                name="shop",
                team="sales",
                place="t.yaml:5:11",
                state="suspended",
                require_idempotency_key=True,
                guaranteed_per_minute=20,
                implicit_window_s=None,
                defaults={
                    "channel": '"web"', "weights": "[1,2.50,-1e-7]", "on": '"yes"', "none": "null",
                    "day": '"2026-01-31"', "12": '"12"',
                },
                enforced={"source": '{"name":"a\\tb","open":true}'},
            ),
            WantedTenant(name="till", team="sales", place="t.yaml:14:24"),
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "teams", "tenants"),
    [
        ("", None, None),
        ("# nothing but words", None, None),
        ("teams:\ntenants:", None, None),
        ("teams: ~", None, None),
        ("\ufeffteams: []", 0, None),
        ("teams: []\ntenants: []", 0, 0),
        ("teams: [{name: a}]", 1, None),
        ("tenants: [{name: a, team: b, metadata: , state: active}]", None, 1),
    ],
)
def test_a_list_that_is_not_there_says_nothing(text: str, teams: int | None, tenants: int | None) -> None:
    found = wanted(text)
    counts = [None if one is None else len(one) for one in (found.teams, found.tenants)]
    assert counts == [teams, tenants]


def test_metadata_with_nothing_behind_its_colon_says_nothing_and_an_empty_one_says_so() -> None:
    for text in ("metadata:", "metadata: {}", "metadata: {defaults: , enforced: null}"):
        (one,) = wanted(tenant(text)).tenants or ()
        assert (one.defaults, one.enforced) == (UNSET, UNSET)
    (one,) = wanted(tenant("metadata: {defaults: {}, enforced: {}}")).tenants or ()
    assert (one.defaults, one.enforced) == ({}, {})


NAME_FORM = "a lower-case letter, then up to 62 lower-case letters, digits or '-'"
REQUIRE = "tenant shop: require_idempotency_key: must be true or false, not"
NUMBER = "must be a whole number from 0 to 1000000, or null, not"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        # the file as such
        ("[]", ["1:1: must hold `teams:` and `tenants:`, lists of them"]),
        ("text", ["1:1: must hold `teams:` and `tenants:`, lists of them"]),
        (
            "teems: []\nteams: []\ntenant: []",
            [
                "1:1: teems: there is no such member; did you mean teams?",
                "3:1: tenant: there is no such member; did you mean tenants?",
            ],
        ),
        ("teams: []\nteams: []", ["2:1: teams: is there twice, first in line 1"]),
        ("teams: {}", ["1:8: teams: must be a list, not a mapping"]),
        ("tenants: 3", ["1:10: tenants: must be a list, not a number"]),
        ("? [teams]\n: []", ["1:3: a name must be plain text"]),
        # teams
        ("teams: [3, [], a]", [
            "1:9: teams: must be a mapping with a name, not a number",
            "1:12: teams: must be a mapping with a name, not a list",
            "1:16: teams: must be a mapping with a name, not 'a'",
        ]),
        ("teams: [{}]", ["1:9: teams: this one has no name"]),
        ("teams:\n  - name: Sales", [f"2:11: teams.name: 'Sales' is no name: {NAME_FORM}"]),
        ("teams:\n  - name: ''", [f"2:11: teams.name: \"''\" is no name: {NAME_FORM}"]),
        ("teams:\n  - name:", ["2:10: teams.name: must be a name, not nothing (leave the line out)"]),
        ("teams:\n  - name: true", ["2:11: teams.name: must be a name, not true or false (put it in quotes)"]),
        ("teams:\n  - name: 12", ["2:11: teams.name: must be a name, not a number (put it in quotes)"]),
        ("teams:\n  - name: [a]", ["2:11: teams.name: must be a name, not a list"]),
        (f"teams: [{{name: {'a' * 64}}}]", [f"1:16: teams.name: '{'a' * 64}' is no name: {NAME_FORM}"]),
        (
            "teams:\n  - name: a\n  - name: b\n  - name: a\n    x: 1\n  - name: a",
            ["4:11: team a: is there twice, first in line 2", "6:11: team a: is there twice, first in line 2"],
        ),
        ("teams: [{name: a, name: b}]", ["1:19: teams.name: is there twice, first in line 1"]),
        ("teams: [{name: a, keys: [secret]}]", ["1:19: teams.keys: there is no such member"]),
        ("tenants:\n  - team: a", ["2:5: tenants: this one has no name"]),
        ("tenants:\n  - name: shop", ["2:11: tenant shop: has no team"]),
        ("tenants:\n  - {name: a, team: B}", [f"2:21: tenant a: team: 'B' is no name: {NAME_FORM}"]),
        (
            "tenants:\n  - {name: shop, team: a}\n  - {name: shop, team: b}",
            ["3:12: tenant shop: is there twice, first in line 2"],
        ),
    ],
)  # fmt: skip
def test_each_fault_has_its_place(text: str, lines: list[str]) -> None:
    assert faults(text) == [f"t.yaml:{line}" for line in lines]


WINDOW = "tenant shop: implicit_window_s: must be a whole number from 0 to 86400, or null, not"
OWN = "names that begin with 'gateway' are the gateway's own"
NO_NUMBER = "is no number as JSON has them: change it, or put it in quotes"


@pytest.mark.parametrize(
    ("text", "column", "what"),
    [
        ("stat: active", 3, "tenants.stat: there is no such member; did you mean state?"),
        ("state: gone", 10, "tenant shop: state: must be active or suspended, not 'gone'"),
        ("state:", 9, "tenant shop: state: must be active or suspended, not nothing (leave the line out)"),
        ("require_idempotency_key: yes", 28, f"{REQUIRE} 'yes'"),
        ("require_idempotency_key: 'true'", 28, f"{REQUIRE} 'true'"),
        ("require_idempotency_key: 1", 28, f"{REQUIRE} a number"),
        *(
            (f"guaranteed_per_minute: {value}", 26, f"tenant shop: guaranteed_per_minute: {NUMBER} {shown}")
            for value, shown in [
                *((value, value) for value in ("-1", "1.0", "'1'", "010", "1_000", "1e3", "1000001")),
                ("[1]", "a list"),
                ("{}", "a mapping"),
                ("true", "true or false"),
                ("9" * 400, "9" * 60 + "…"),
            ]
        ),
        ("implicit_window_s: 5m", 22, f"{WINDOW} '5m'"),
        ("implicit_window_s: 86401", 22, f"{WINDOW} 86401"),
        ("metadata: []", 13, "tenant shop: metadata: must hold `defaults:` and `enforced:`, not a list"),
        (
            "metadata: {enforce: {}}",
            14,
            "tenant shop: metadata.enforce: there is no such member; did you mean enforced?",
        ),
        ("metadata: {defaults: [1]}", 24, "tenant shop: metadata.defaults: must be a mapping, not a list"),
        (
            "metadata: {defaults: {a: 1, a: 2}}",
            31,
            "tenant shop: metadata.defaults.a: is there twice, first in line 4",
        ),
        (
            "metadata: {defaults: {a: {b: 1, b: 2}}}",
            35,
            "tenant shop: metadata.defaults.b: is there twice, first in line 4",
        ),
        (
            f"metadata: {{enforced: {{a: {'x' * 32_768}, b: {'ä' * 16_384}}}}}",
            24,
            "tenant shop: metadata.enforced: is larger than 65536 bytes",
        ),
        ("metadata: {enforced: {GateWayX: 1}}", 25, f"tenant shop: metadata.enforced: GateWayX: {OWN}"),
        ('metadata: {enforced: {"gateway\\u0058": 1}}', 25, f"tenant shop: metadata.enforced: gatewayX: {OWN}"),
        *(
            (
                f"metadata: {{defaults: {{a: {number}}}}}",
                28,
                f"tenant shop: metadata.defaults.a: {number} {NO_NUMBER}",
            )
            for number in ("0x10", "0o17", "010", "+1", ".5", "1.", "1_000", ".inf", "-.inf", ".nan", "01.5e3")
        ),
    ],
)
def test_each_fault_of_a_tenant_has_its_place(text: str, column: int, what: str) -> None:
    assert faults(tenant(text)) == [f"t.yaml:4:{column}: {what}"]


def test_all_faults_are_told_in_the_order_in_which_they_stand() -> None:
    text = """\
teams:
  - name: Sales
  - nam: x
tenants:
  - name: shop
    team: 1
    state: on
    colour: red
    guaranteed_per_minute: many
    metadata:
      defaults: {gatewayX: 0x10}
  - 1
x: 1
"""
    places = ("2:11", "3:5", "3:5", "6:11", "7:12", "8:5", "9:28", "11:18", "11:28", "12:5", "13:1")
    assert [line.partition(": ")[0] for line in faults(text)] == [f"t.yaml:{place}" for place in places]


def test_what_is_good_in_a_bad_file_is_still_known() -> None:
    found = read_tenants_file(
        b"teams: [{name: A}, {name: b}]\ntenants: [{name: c, team: d}, {name: c, team: e}]", "f"
    )
    assert [team.name for team in found.wanted.teams or ()] == ["b"]
    assert [one.team for one in found.wanted.tenants or ()] == ["d"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("teams: &a []", "t.yaml:1:8: anchors (&) are not used here"),
        ("teams: *a", "t.yaml:1:8: aliases (*) are not used here: write the value itself"),
        ("teams: !!python/object/apply:os.abort []", "t.yaml:1:8: tags (!) are not used here"),
        ("<<: {teams: []}", "t.yaml:1:1: <<: there is no such member"),
        ("teams: []\n---\nteams: []", "t.yaml:2:1: cannot be read as YAML: but found another document"),
        (b"teams:\n  # \xff\n", "t.yaml:2:5: is not UTF-8"),
        ("teams: []\n# é \x07", "t.yaml:2:5: holds a character that YAML does not allow"),
        ("teams: []".encode("utf-16"), "t.yaml:1:1: is not UTF-8"),
        ("[" * 100_000, f"t.yaml:1:{LIMITS.depth + 1}: is nested too deeply to be teams and tenants"),
        ("#" * (LIMITS.bytes + 1), f"t.yaml:1:1: is larger than {LIMITS.bytes} bytes"),
        ("".join(f"a{n}:\n" for n in range(1_000_000)), "nothing after this is read"),
        ("tenants: [" + "{a: 1}," * 200_000 + "]", "nothing after this is read"),
    ],
    ids=lambda value: repr(value[:12]),
)
def test_what_the_file_does_not_need_is_refused(text: str | bytes, line: str) -> None:
    found = faults(text)
    assert [fault for fault in found if fault.endswith(line)], found


@pytest.mark.parametrize("text", ["teams: [", "teams: {a", "a: b: c", "teams:\n\t- a", "teams: 'a", "- a\nb: c"])
def test_broken_yaml_says_where(text: str) -> None:
    (found,) = faults(text)
    place, colon, what = found.partition(": cannot be read as YAML: ")
    assert colon and what
    assert place.startswith("t.yaml:")


def test_a_bomb_of_aliases_is_refused_without_being_built() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 200))
    assert any("aliases (*) are not used here" in line for line in faults(bomb))


def test_of_endless_faults_the_first_are_told_and_how_many_there_are() -> None:
    found = faults("teams:\n" + "  - {}\n" * (MAX_FAULTS + 7))
    assert len(found) == MAX_FAULTS + 1
    assert found[-1] == f"t.yaml:{MAX_FAULTS + 1}:5: and 7 more after this"


def test_a_name_from_the_file_does_nothing_to_a_terminal() -> None:
    metadata = '{defaults: {"\\u0007gate": .5, "gateway\\e": 1}}'
    found = faults(f'tenants: [{{name: "a\\e[31m", team: "\\u202e", metadata: {metadata}, "\\e": 1}}]')
    assert len(found) == 5
    assert all(line.isprintable() for line in found)


TEXTS = st.text(st.characters(codec="utf-8"), max_size=6)
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,4}", fullmatch=True)
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
MEMBERS = st.dictionaries(TEXTS.filter(lambda name: name[:1].lower() != "g"), JSONS, max_size=3)
TENANTS = st.fixed_dictionaries(
    {"name": NAMES, "team": NAMES},
    optional={
        "state": st.sampled_from(["active", "suspended"]),
        "require_idempotency_key": st.booleans(),
        "guaranteed_per_minute": st.none() | st.integers(0, MOST["guaranteed_per_minute"]),
        "implicit_window_s": st.none() | st.integers(0, MOST["implicit_window_s"]),
        "metadata": st.fixed_dictionaries({}, optional={"defaults": MEMBERS, "enforced": MEMBERS}),
    },
)


@given(
    tenants=st.lists(TENANTS, max_size=4, unique_by=lambda one: one["name"]),
    styles=st.sampled_from([None, True, False]),
)
def test_whatever_is_written_as_yaml_is_read_as_it_was_meant(
    tenants: list[dict[str, Any]], styles: bool | None
) -> None:
    text = yaml.safe_dump({"tenants": tenants}, default_flow_style=styles, sort_keys=False)
    read = read_tenants_file(text.encode(), "f")
    assert not read.faults, (text, read.faults)
    for meant, found in zip(tenants, read.wanted.tenants or (), strict=True):
        said = {name: value for name, value in structs.asdict(found).items() if value is not UNSET}
        metadata = meant.pop("metadata", {})
        del said["place"]
        for kind in ("defaults", "enforced"):
            members = {name: json.loads(value) for name, value in said.pop(kind, {}).items()}
            assert members == metadata.get(kind, {})
        assert said == meant


@given(content=st.binary(max_size=200) | st.text("[]{}:,-?&*!|>'\"%@`# \n\tab", max_size=60).map(str.encode))
def test_whatever_is_in_the_file_it_is_read_or_refused(content: bytes) -> None:
    found = read_tenants_file(content, "f")
    assert all(str(fault).startswith("f:") for fault in found.faults)


def test_the_two_parsers_agree_on_every_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where LibYAML is not there, PyYAML's own parser reads the same."""
    fast = read_tree(WHOLE.encode(), "f", LIMITS)
    monkeypatch.setattr("gateway.settings.tree.LOADER", yaml.SafeLoader)
    assert read_tree(WHOLE.encode(), "f", LIMITS) == fast
