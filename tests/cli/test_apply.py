"""`ordergate apply`: what it prints, its exit statuses, and that a gateway that runs follows."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.broker.administration import Administration
from gateway.broker.applying import Prepared
from gateway.broker.vault import Secret
from gateway.sandbox import SandboxThread
from tests.accept.world import wait_until
from tests.cli.conftest import Program
from tests.support.needs import ROOT
from tests.support.stack import an_order, running_stack

EXAMPLE = ROOT / "config/tenants.yaml"
FILE = """\
teams:
  - name: sales
tenants:
  - name: shop
    team: sales
    metadata:
      defaults: {channel: web, weight: 1.50}
  - name: till
    team: sales
    state: suspended
    guaranteed_per_minute: 20
"""


def written(program: Program, text: str, name: str = "t.yaml") -> str:
    path = program.folder / name
    path.write_text(text)
    return str(path)


def audited(program: Program) -> list[dict[str, Any]]:
    """Oldest first, as a change is told."""
    with program.administration() as admin:
        rows = reversed(admin.audited(limit=1_000))
        return [
            {"action": row.action.decode(), "subject": row.subject.decode(), "change": json.loads(row.change)}
            for row in rows
        ]


def words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_the_example_applies_as_it_stands(program: Program) -> None:
    shutil.copytree(EXAMPLE.parent, program.folder / "config")
    done = program("apply", "config/tenants.yaml", "--prune")
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines()[-1] == "done: 5 created, 0 unchanged"
    shown = program.within("tenant", "show", "web-shop", "--json").value
    assert (shown["guaranteed_per_minute"], shown["implicit_window_s"]) == (30, 600)
    assert shown["metadata"] == {
        "defaults": {"channel": "web", "campaign": None},
        "enforced": {"source": {"service": "web-shop", "costCentre": "0042"}},
    }
    assert [one["state"] for one in program.within("tenant", "list", "--json").value] == [
        "active", "suspended", "active"
    ]  # fmt: skip
    assert program.within("apply", str(EXAMPLE), "--prune").out == "nothing to do: 5 unchanged\n"


def test_the_example_names_every_member_there_is() -> None:
    text = EXAMPLE.read_text()
    with_placeholder = {"teams", "tenants", "name", "team", "state", "metadata", "defaults", "enforced"}
    for member in (*with_placeholder, "require_idempotency_key", "guaranteed_per_minute", "implicit_window_s"):
        assert f"{member}:" in text


def test_the_plan_is_shown_done_and_then_there_is_nothing_to_do(program: Program) -> None:
    file = written(program, FILE)
    dry = program("apply", file, "--dry-run")
    assert (dry.status, dry.err, audited(program)) == (0, "", [])
    *rows, last = words(dry.out)
    assert " ".join(last) == "nothing was done; it would be: 3 created, 0 unchanged"
    assert [" ".join(row) for row in rows] == [
        "do to from → to",
        "create team sales",
        'create tenant shop team sales, state active, default channel "web", default weight 1.50',
        "create tenant till team sales, state suspended, guaranteed_per_minute 20",
    ]
    done = program.within("apply", file)
    assert done.out.splitlines()[:-1] == dry.out.splitlines()[:-1]
    assert done.out.splitlines()[-1] == "done: 3 created, 0 unchanged"
    rows_written = audited(program)
    assert len(rows_written) == 3
    assert program.within("apply", file).out == "nothing to do: 3 unchanged\n"
    assert audited(program) == rows_written


def test_changes_are_shown_from_and_to_and_what_would_be_removed_is_named(program: Program) -> None:
    program.within("apply", written(program, FILE))
    changed = (
        FILE.replace("1.50", "2").replace("suspended", "active").replace("20", "null")
        + "    implicit_window_s: 0\n"
    )
    changed = changed.replace("    metadata", "    state: suspended\n    metadata").replace("2}", "1.50}")
    with program.administration() as admin:
        admin.add_team("old")
    done = program.within("apply", written(program, changed))
    assert done.out == (
        "do       to           from → to\n"
        "suspend  tenant shop  state active → suspended\n"
        "change   tenant till  state suspended → active, guaranteed_per_minute 20 → -, implicit_window_s - → 0\n"
        "keep     team old     not in the file; --prune removes it\n"
        "done: 1 suspended, 1 changed, 1 unchanged\n"
    )
    pruned = program.within(
        "apply", written(program, "teams: [{name: sales}]\ntenants: []"), "--prune", "--dry-run"
    )
    assert [row[:3] for row in words(pruned.out)[1:-1]] == [
        ["remove", "tenant", "shop"], ["remove", "tenant", "till"], ["remove", "team", "old"]
    ]  # fmt: skip
    assert pruned.out.endswith("nothing was done; it would be: 3 removed, 1 unchanged\n")


def test_as_json_it_is_one_value_and_tells_what_the_log_tells(program: Program) -> None:
    file = written(program, FILE)
    dry = program.within("apply", file, "--dry-run", "--json").value
    done = program.within("apply", file, "--json")
    assert dry == {**done.value, "dryRun": True}
    assert done.value["changes"] == audited(program)
    assert '"weight":1.50' in done.out
    assert {name: value for name, value in done.value.items() if name != "changes"} == {
        "kept": [], "unchanged": 0, "notes": [], "dryRun": False
    }  # fmt: skip
    again = program("--json", "apply", "-", typed="tenants: [{name: shop, team: sales}]")
    assert again.value == {"changes": [], "kept": ["tenant till"], "unchanged": 1, "notes": [], "dryRun": False}


def test_parts_that_are_more_than_the_team_has_are_noted(program: Program) -> None:
    def noted(*parts: tuple[int, str], team: str = "sales") -> list[str]:
        tenants = [
            f"{{name: {team}{number}, team: {team}, guaranteed_per_minute: {part}, state: {state}}}"
            for number, (part, state) in enumerate(parts)
        ]
        file = written(program, f"teams: [{{name: {team}}}]\ntenants: [{', '.join(tenants)}]")
        notes = program.within("apply", file, "--prune", "--dry-run", "--json").value["notes"]
        done = program.within("apply", file, "--prune")
        assert done.status == 0
        assert done.err == "".join(f"note: {note}\n" for note in notes)
        found: list[str] = program.within("apply", file, "--json").value["notes"]
        assert found == notes, "as long as it is so"
        return found

    assert noted((60, "active"), (35, "active"), (9, "suspended")) == []
    said = "the tenants of team sales have {} calls a minute guaranteed to them, and its orders have {} in all: "
    assert noted((60, "active"), (35, "active"), (9, "active")) == [
        said.format(104, 95) + "each part is cut down to fit"
    ]
    with program.administration() as admin:
        key = admin.add_key("sales", Secret("sandbox-key-1"), per_minute=50)
    assert noted((46, "active")) == [said.format(46, 45) + "each part is cut down to fit"]
    assert noted((45, "active")) == []
    with program.administration() as admin:
        admin.revoke_key("sales", key.key_id)
    assert len(noted((1_000_000, "active"), team="lab")) == 1
    with program.administration() as admin:
        admin.add_key("lab", Secret("sandbox-key-2"), per_minute=0)
    assert noted((1_000_000, "active"), team="lab") == []


@pytest.mark.parametrize("options", [(), ("--json",), ("--dry-run",)], ids=" ".join)
def test_a_bad_file_is_exit_2_with_all_its_faults_and_what_the_ledger_says(
    program: Program, options: tuple[str, ...]
) -> None:
    program.within("team", "add", "sales")
    before = audited(program)
    file = written(
        program, "teams: [{name: New}]\ntenants: [{name: a, team: sales}, {name: b, team: nobody, x: 1}]\n"
    )
    done = program.within("apply", file, *options)
    assert (done.status, done.out) == (2, "")
    assert [line.removeprefix(file) for line in done.err.splitlines()] == [
        ":1:16: teams.name: 'New' is no name: a lower-case letter, then up to 62 lower-case letters, digits or '-'",
        ":2:59: tenants.x: there is no such member",
        ":2:51: tenant b: there is no team nobody",
    ]
    assert audited(program) == before


def test_a_bad_file_is_told_whatever_is_wrong_with_the_ledger(program: Program) -> None:
    (program.folder / "var").mkdir()
    (program.folder / "var/ordergate.db").write_bytes(b"not a ledger, nor any database at all" * 100)
    assert program.within("apply", written(program, "teams: []")).status == 5
    bad = program.within("apply", written(program, "teams: 3"))
    assert (bad.status, bad.out) == (2, "")
    assert bad.err.endswith(":1:8: teams: must be a list, not a number\n")


@pytest.mark.parametrize("options", [(), ("--json",), ("--dry-run",)], ids=" ".join)
def test_what_the_ledger_does_not_allow_is_exit_4_and_nothing_is_done(
    program: Program, options: tuple[str, ...]
) -> None:
    file = written(program, "teams: [{name: sales}]\ntenants: [{name: a, team: sales}, {name: b, team: nobody}]\n")
    done = program.within("apply", file, *options)
    assert (done.status, done.out, done.err) == (4, "", f"{file}:2:51: tenant b: there is no team nobody\n")
    assert audited(program) == []


def test_a_file_that_cannot_be_read_is_a_usage_error(program: Program) -> None:
    for arguments in (("apply",), ("apply", "nowhere.yaml"), ("apply", "."), ("apply", "a", "b")):
        done = program.within(*arguments)
        assert (done.status, done.out) == (2, ""), arguments
    assert not (program.folder / "var").exists()


def test_a_file_without_end_is_not_read_to_its_end(program: Program) -> None:
    done = program("apply", "/dev/zero")
    assert (done.status, done.out, done.err) == (2, "", "/dev/zero:1:1: is larger than 16777216 bytes\n")


def test_where_somebody_was_faster_the_plan_is_shown_anew(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry_out = Administration.carry_out

    def too_late(self: Administration, prepared: Prepared) -> bool:
        monkeypatch.setattr(Administration, "carry_out", carry_out)
        with program.administration() as other:
            other.add_team("sales")
        return self.carry_out(prepared)

    monkeypatch.setattr(Administration, "carry_out", too_late)
    done = program.within("apply", written(program, FILE))
    assert (done.status, done.err) == (0, "teams or tenants were changed meanwhile; now the plan is:\n")
    assert [row[:3] for row in words(done.out)].count(["create", "team", "sales"]) == 1
    assert done.out.splitlines()[-1] == "done: 2 created, 1 unchanged"
    assert [row["subject"] for row in audited(program)] == ["sales", "shop", "till"]


def test_it_is_done_whoever_reads_the_plan_to_its_end(program: Program) -> None:
    file = written(program, "teams:\n" + "".join(f"  - name: t{number}\n" for number in range(5_000)))
    with program.started("apply", file) as process:
        assert process.stdout is not None
        assert process.stdout.readline().split() == ["do", "to", "from", "→", "to"]
        process.stdout.close()
        assert process.wait(60) == 0
    with program.administration() as admin:
        assert len(admin.teams()) == 5_000


def test_teams_and_tenants_are_removed(program: Program) -> None:
    program.within("apply", written(program, FILE))
    token = program.within("token", "issue", "shop", "--json").value["tokenId"]
    kept = program.within("team", "remove", "sales")
    assert (kept.status, kept.err) == (4, "team sales has tenants (shop, till): remove them first\n")
    gone = program.within("tenant", "remove", "shop", "--json").value
    assert (gone["tenant"], gone["team"]) == ("shop", "sales")
    assert audited(program)[-1]["change"]["from"]["tokens"] == [token]
    assert program.within("tenant", "remove", "till").out == "tenant till is removed, with its tokens\n"
    assert program.within("tenant", "remove", "till").status == 4
    assert program.within("team", "remove", "sales", "--json").value == {"team": "sales"}
    assert program.within("team", "remove", "sales").status == 4
    assert [row["action"] for row in audited(program)][-3:] == ["tenant remove", "tenant remove", "team remove"]


def test_a_gateway_that_runs_follows_and_keeps_a_tenant_whose_order_nobody_is_sure_of() -> None:
    with SandboxThread(per_minute=0) as sandbox, running_stack(upstream_base_url=sandbox.base_url) as stack:
        program = Program(stack.folder, stack.environ)
        both = "teams: [{name: team}]\ntenants: [{name: shop, team: team, state: %s}, {name: till, team: team}]"

        def apply(text: str, *options: str) -> Mapping[str, Any]:
            value: Mapping[str, Any] = program.within("apply", "-", "--json", *options, typed=text).value
            return value

        def order() -> int:
            with stack.client() as client:
                return client.post("/orders", json=an_order()).status_code

        assert order() == 201
        assert [change["subject"] for change in apply(both % "suspended")["changes"]] == ["shop", "till"]
        wait_until(lambda: order() == 403, "the tenant is suspended")
        assert [change["action"] for change in apply(both % "active")["changes"]] == ["tenant resume"]
        wait_until(lambda: order() == 201, "the tenant is active again")
        sandbox.set_fault("place_then_reset")
        with stack.client() as client:
            assert client.post("/orders", json=an_order(notes="another")).status_code == 502
        refused = program.within("apply", "-", "--prune", typed="teams: []\ntenants: []")
        assert (refused.status, refused.out) == (4, "")
        assert "tenant shop has 1 order that nobody is sure of: ordergate orders reconcile" in refused.err
        assert apply("tenants: []")["kept"] == ["tenant shop", "tenant till"]


def test_a_shell_completes_the_command_and_its_file(program: Program, tmp_path: Path) -> None:
    for typed, answer in (("ordergate ap", "plain,apply"), ("ordergate apply --pr", "plain,--prune")):
        count = str(len(typed.split()) - 1)
        done = program(_ORDERGATE_COMPLETE="bash_complete", COMP_WORDS=typed, COMP_CWORD=count)
        assert done.out == f"{answer}\n"
    done = program(_ORDERGATE_COMPLETE="bash_complete", COMP_WORDS="ordergate apply con", COMP_CWORD="2")
    assert done.out == "file,con\n", "the shell itself completes names of files"
