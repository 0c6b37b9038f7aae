"""Teams and tenants as a file says: on a real ledger, held against a model of dictionaries."""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET, structs

from gateway.broker import applying
from gateway.broker.administration import Administration, Applied, NewTenant
from gateway.broker.vault import MasterKey, Secret, Vault
from gateway.clock import SystemClock
from gateway.core.directory import DirectoryRows
from gateway.core.tenancy import tenant_facts
from gateway.core.tenants_plan import TenantsFile, WantedTeam, WantedTenant
from gateway.errors import Refused
from gateway.ledger.sqlite_directory import SqliteDirectory
from gateway.ledger.sqlite_engine import connect

NOTHING = TenantsFile(teams=(), tenants=())
Model = dict[str, Any]
"""`teams` is a set of names, `tenants` maps names to what was said of them, with what is usual elsewhere."""


class Desk:
    """Administration of a real, empty ledger."""

    def __init__(self, path: Path) -> None:
        clock = SystemClock()
        vault = Vault(MasterKey(bytes(32)), clock)
        self.path = path
        self.connection = connect(path)
        self.store = SqliteDirectory(self.connection)
        self.store.begin_chain(vault, 0, new=True)
        self.admin = Administration(self.store, vault, clock, who="ops")

    def everything(self) -> dict[str, list[Any]]:
        tables = ("meta", "teams", "upstream_keys", "tenants", "tokens", "removed_tenants", "audit")
        return {table: self.connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in tables}  # noqa: S608 - constants only

    def now(self) -> Model:
        rows = self.store.rows()
        tenants = {tenant.name: _plain(tenant_facts(tenant)) for tenant in rows.tenants}
        return {"teams": {team.name for team in rows.teams}, "tenants": tenants}

    def audited(self, since: int) -> list[tuple[str, str, Any]]:
        statement = "SELECT action, subject, change FROM audit WHERE number > ? ORDER BY number"
        rows: list[Any] = self.connection.execute(statement, (since,)).fetchall()
        return [(action, subject, json.loads(change)) for action, subject, change in rows]

    def last(self) -> int:
        return int(self.connection.execute("SELECT coalesce(max(number), 0) FROM audit").get)

    def apply(self, wanted: TenantsFile, *, prune: bool = False, dry_run: bool = False) -> Applied:
        return self.admin.apply(wanted, prune=prune, dry_run=dry_run)

    def refuses(self, wanted: TenantsFile, *, prune: bool = False) -> list[str]:
        """The lines of a refusal, after which everything is as it was."""
        before = self.everything()
        with pytest.raises(Refused) as caught:
            self.apply(wanted, prune=prune)
        assert self.everything() == before
        return str(caught.value).splitlines()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    found = Desk(tmp_path / "o.db")
    yield found
    found.store.close()


@pytest.fixture(scope="module")
def shared_desk() -> Iterator[Desk]:
    with tempfile.TemporaryDirectory() as folder:
        found = Desk(Path(folder) / "o.db")
        yield found
        found.store.close()


def team(name: str) -> WantedTeam:
    return WantedTeam(name=name, place=f"f:1:{len(name)}")


def tenant(name: str, of: str = "sales", **said: Any) -> WantedTenant:
    return WantedTenant(name=name, team=of, place="f:2:1", **said)


def file(teams: Sequence[str] | None, *tenants: WantedTenant) -> TenantsFile:
    return TenantsFile(teams=None if teams is None else tuple(map(team, teams)), tenants=tenants)


def _plain(facts: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(facts))


# --- whatever is in the files --------------------------------------------------------------------------------------

MEMBERS = st.dictionaries(st.sampled_from("abc"), st.sampled_from(['"x"', "1", "[1,2.50]", "null"]), max_size=2)
NUMBERS = st.none() | st.integers(0, 9)
SAID: dict[str, st.SearchStrategy[Any]] = {
    "state": st.sampled_from(["active", "suspended"]),
    "require_idempotency_key": st.booleans(),
    "guaranteed_per_minute": NUMBERS,
    "implicit_window_s": NUMBERS,
    "defaults": MEMBERS,
    "enforced": MEMBERS,
}
HOME = {"a1": "a", "a2": "a", "b1": "b", "b2": "b", "c1": "c"}
"""Which team a tenant of that name is of, in every file."""


def tenants_of(said: Callable[[dict[str, Any]], st.SearchStrategy[dict[str, Any]]]) -> st.SearchStrategy[Any]:
    one = st.sampled_from(sorted(HOME)).flatmap(
        lambda name: said(SAID).map(lambda members: tenant(name, HOME[name], **members))
    )
    return st.lists(one, max_size=5, unique_by=lambda wanted: wanted.name).map(tuple)


def with_teams(tenants: tuple[WantedTenant, ...] | None, more: set[str]) -> TenantsFile:
    names = {wanted.team for wanted in tenants or ()} | more
    return TenantsFile(teams=tuple(team(name) for name in sorted(names)), tenants=tenants)


TEAMS = st.sets(st.sampled_from(["a", "b", "c", "d"]), max_size=3)
PARTS = st.builds(with_teams, st.none() | tenants_of(lambda said: st.fixed_dictionaries({}, optional=said)), TEAMS)
WHOLE = st.builds(with_teams, tenants_of(st.fixed_dictionaries), TEAMS)
FILES = PARTS | WHOLE | PARTS.map(lambda found: structs.replace(found, teams=None))


def model(before: Model, wanted: TenantsFile, *, prune: bool) -> Model | None:
    """What must be there afterwards; None where it must be refused."""
    teams, tenants = set(before["teams"]), dict(before["tenants"])
    if prune and wanted.tenants is not None:
        tenants = {name: facts for name, facts in tenants.items() if name in {one.name for one in wanted.tenants}}
    if wanted.teams is not None:
        listed = {one.name for one in wanted.teams}
        teams = listed if prune else teams | listed
    for one in wanted.tenants or ():
        facts = _plain(tenant_facts(NewTenant(name=one.name, team=one.team))) | tenants.get(one.name, {})
        said = {name: value for name, value in structs.asdict(one).items() if value is not UNSET}
        metadata = dict(facts["metadata"])
        for kind in {"defaults", "enforced"} & said.keys():
            metadata[kind] = {name: json.loads(text) for name, text in said.pop(kind).items()}
        tenants[one.name] = (
            facts | {name: said[name] for name in facts.keys() & said.keys()} | {"metadata": metadata}
        )
    if any(facts["team"] not in teams for facts in tenants.values()):
        return None
    return {"teams": teams, "tenants": tenants}


@settings(deadline=None, max_examples=60)
@given(files=st.lists(st.tuples(FILES, st.booleans()), min_size=1, max_size=4))
def test_after_each_file_the_ledger_is_as_a_model_says_and_the_log_tells_it(
    shared_desk: Desk, files: list[tuple[TenantsFile, bool]]
) -> None:
    desk = shared_desk
    desk.apply(NOTHING, prune=True)
    expected: Model = {"teams": set(), "tenants": {}}
    for wanted, prune in files:
        before, last = desk.everything(), desk.last()
        after = model(expected, wanted, prune=prune)
        if after is None:
            desk.refuses(wanted, prune=prune)
            continue
        planned = desk.apply(wanted, prune=prune, dry_run=True)
        assert desk.everything() == before, "a dry run changes nothing"
        done = desk.apply(wanted, prune=prune)
        assert done == planned
        assert desk.now() == after
        told = [(change.action, change.subject, _plain(change.change)) for change in done.changes]
        assert desk.audited(last) == told, "what is said is what the log tells"
        whole = desk.everything()
        again = desk.apply(wanted, prune=prune)
        assert (again.changes, again.kept) == ((), done.kept)
        assert again.unchanged == len(wanted.teams or ()) + len(wanted.tenants or ())
        assert desk.everything() == whole, "where nothing is to do, nothing is written"
        expected = after
    assert desk.admin.verify_audit().broken is None


@settings(deadline=None, max_examples=40)
@given(first=FILES, prune=st.booleans(), second=WHOLE)
def test_a_file_that_says_all_is_all_that_is_there_once_it_is_pruned(
    shared_desk: Desk, first: TenantsFile, prune: bool, second: TenantsFile
) -> None:
    shared_desk.apply(NOTHING, prune=True)
    if model({"teams": set(), "tenants": {}}, first, prune=prune) is not None:
        shared_desk.apply(first, prune=prune)
    shared_desk.apply(second, prune=True)
    assert shared_desk.now() == model({"teams": set(), "tenants": {}}, second, prune=True)


# --- single cases --------------------------------------------------------------------------------------------------


def test_changes_are_told_by_what_they_are(desk: Desk) -> None:
    desk.apply(file(["sales", "old"], tenant("shop"), tenant("till"), tenant("gone", "old"), tenant("kiosk")))
    done = desk.apply(
        file(["sales"], tenant("shop", state="suspended"), tenant("till", state="suspended", implicit_window_s=0),
             tenant("kiosk"), tenant("web")),
        prune=True,
    )  # fmt: skip
    assert [(change.action, change.subject) for change in done.changes] == [
        ("tenant suspend", "shop"), ("tenant change", "till"), ("tenant add", "web"),
        ("tenant remove", "gone"), ("team remove", "old"),
    ]  # fmt: skip
    assert done.changes[1].change == {
        "from": {"state": "active", "implicit_window_s": None},
        "to": {"state": "suspended", "implicit_window_s": 0},
    }
    assert done.unchanged == 2
    resumed = desk.apply(file(None, tenant("shop", state="active")))
    assert [change.action for change in resumed.changes] == ["tenant resume"]


def test_without_prune_what_the_file_lacks_stays_and_is_named(desk: Desk) -> None:
    desk.apply(file(["sales", "lab"], tenant("shop"), tenant("probe", "lab")))
    assert desk.apply(file(["sales"], tenant("shop"))).kept == ("team lab", "tenant probe")
    assert desk.apply(file(None, tenant("shop"))).kept == ("tenant probe",)
    assert desk.apply(TenantsFile(teams=(team("sales"),))).kept == ("team lab",)
    assert desk.apply(TenantsFile(), prune=True) == Applied(changes=(), kept=(), unchanged=0)
    assert desk.now()["teams"] == {"sales", "lab"}


def test_what_the_file_does_not_say_of_a_tenant_stays(desk: Desk) -> None:
    desk.apply(file(["sales"], tenant("shop", guaranteed_per_minute=7, defaults={"a": "1"})))
    desk.admin.set_tenant_state("shop", "suspended")
    assert desk.apply(file(["sales"], tenant("shop", enforced={"b": "2"}))).changes[0].change == {
        "from": {"metadata": {"defaults": {"a": msgspec.Raw(b"1")}, "enforced": {}}},
        "to": {"metadata": {"defaults": {"a": msgspec.Raw(b"1")}, "enforced": {"b": msgspec.Raw(b"2")}}},
    }
    shop = desk.admin.tenant("shop")
    assert (shop.state, shop.guaranteed_per_minute, shop.defaults) == ("suspended", 7, {"a": "1"})


def test_all_that_cannot_be_done_is_told_and_nothing_is_done(desk: Desk) -> None:
    desk.apply(file(["sales", "lab", "old"], tenant("shop"), tenant("probe", "lab")))
    key = desk.admin.add_key("old", Secret("sandbox-key-1"))
    moved = "belongs to team lab, which cannot be changed: remove it and add it again, or add another tenant"
    assert desk.refuses(file(["sales"], tenant("shop", "nobody"), tenant("probe", "sales")), prune=True) == [
        "f:2:1: tenant shop: there is no team nobody",
        f"f:2:1: tenant probe: {moved}",
        "team lab has tenants (probe): remove them first",
        f"team old has keys that are not revoked ({key.key_id}): revoke them first",
    ]
    desk.admin.revoke_key("old", key.key_id)
    assert desk.refuses(TenantsFile(teams=()), prune=True) == [
        "team lab has tenants (probe): remove them first",
        "team sales has tenants (shop): remove them first",
    ]
    assert desk.refuses(file([], tenant("shop")), prune=True)[0] == "f:2:1: tenant shop: there is no team sales"


def test_tokens_go_with_their_tenant_and_revoked_keys_with_their_team(desk: Desk) -> None:
    desk.apply(file(["sales", "lab"], tenant("shop")))
    token = desk.admin.issue_token("shop")
    key = desk.admin.add_key("sales", Secret("sandbox-key-1"))
    desk.admin.revoke_key("sales", key.key_id)
    done = desk.apply(file(["lab"]), prune=True)
    assert [change.change["from"].get("tokens") for change in done.changes[:1]] == [(token.record.token_id,)]
    assert done.changes[1].change["from"] == {"keys": (key.key_id,)}
    rows = desk.store.rows()
    assert (rows.tokens, rows.keys, rows.tenants) == ((), (), ())


def test_a_name_that_was_another_tenants_gets_a_scope_of_its_own(desk: Desk) -> None:
    for wanted in (
        file(["sales"], tenant("shop")),
        file(["sales"]),
        file(["sales"], tenant("shop"), tenant("till")),
    ):
        desk.apply(wanted, prune=True)
    scopes = {found.name: found.scope for found in desk.admin.tenants()}
    assert scopes["shop"].startswith("shop#")
    assert scopes["till"] == "till"


def unsettled_order(desk: Desk, name: str) -> None:
    """A row that nobody is sure of; all that is asked of it here is whose it is."""
    columns: list[Any] = desk.connection.execute("PRAGMA table_info(orders)").fetchall()
    found = desk.admin.tenant(name)
    said = {"outcome": "unknown", "tenant_id": found.tenant_id, "tenant": name, "team_id": found.team_id}
    kinds = {"INTEGER": 1, "TEXT": f"text of {name}", "BLOB": b"bytes"}
    values = {
        column: said.get(column, kinds[kind])
        for _, column, kind, required, *_ in columns
        if required or column in said
    }
    marks = ", ".join(f":{column}" for column in values)
    desk.connection.execute(f"INSERT INTO orders ({', '.join(values)}) VALUES ({marks})", values)  # noqa: S608 - names of ours


def test_a_tenant_with_unsettled_orders_is_not_removed_nor_is_anything_else_done(desk: Desk) -> None:
    desk.apply(file(["sales", "lab"], tenant("shop"), tenant("till")))
    unsettled_order(desk, "till")
    wanted = file(["sales", "new"], tenant("web"))
    said = "tenant till has 1 order that nobody is sure of: ordergate orders reconcile"
    assert desk.refuses(wanted, prune=True) == [said]
    with pytest.raises(Refused, match="tenant till has 1 order"):
        desk.apply(wanted, prune=True, dry_run=True)
    assert desk.apply(wanted).kept == ("team lab", "tenant shop", "tenant till")


def test_an_order_that_comes_between_plan_and_deed_is_seen(desk: Desk) -> None:
    desk.apply(file(["sales"], tenant("shop"), tenant("till")))
    prepared = desk.admin.prepare(file(["sales"]), prune=True)
    unsettled_order(desk, "shop")
    before = desk.everything()
    with pytest.raises(Refused, match="tenant shop has 1 order"):
        desk.admin.carry_out(prepared)
    assert desk.everything() == before


def test_a_plan_that_is_out_of_date_is_made_anew(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Desk(desk.path)
    try:
        prepared = desk.admin.prepare(file(["sales", "lab"]), prune=False)
        other.admin.add_team("lab")
        before = desk.everything()
        assert not desk.admin.carry_out(prepared)
        assert desk.everything() == before
        disturbances = iter(range(applying.TRIES - 1))
        rows = desk.store.rows

        def disturbed() -> DirectoryRows:
            found = rows()
            for number in disturbances:
                other.admin.add_team(f"t{number}")
                break
            return found

        monkeypatch.setattr(desk.store, "rows", disturbed)
        done = desk.apply(file(["sales", "lab"]))
        assert [change.subject for change in done.changes] == ["sales"]
        disturbances = iter(range(100, 100 + applying.TRIES))
        with pytest.raises(Refused, match="somebody else all the time"):
            desk.apply(file(["never"]))
    finally:
        other.store.close()
