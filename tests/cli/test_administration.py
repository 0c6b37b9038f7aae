"""Teams, keys, tenants and tokens from the command line: shapes, exit statuses, and where secrets do not go."""

import stat
from pathlib import Path

import pytest

from gateway.broker.administration import NewTenant
from gateway.broker.directory import Directory, LentKey
from gateway.broker.vault import Secret
from gateway.clock import SystemClock
from gateway.core.tokens import parse
from gateway.wiring import open_storage
from tests.cli.conftest import Program
from tests.ledger.ledger_tools import alter

KEY = "sandbox-key-0123456789-canary"


def with_tenant(program: Program) -> Program:
    with program.administration() as admin:
        admin.add_team("sales")
        admin.add_tenant(NewTenant(name="shop", team="sales"))
    return program


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_first_command_ever_makes_a_storage_that_only_its_user_reads(program: Program) -> None:
    assert program("team", "list", "--json").value == []
    var = program.folder / "var"
    assert [path.name for path in program.folder.iterdir()] == ["var"]
    assert mode(var) == 0o700
    assert {path.name: mode(path) for path in var.iterdir()} == {"ordergate.db": 0o600, "master.key": 0o600}


def test_teams_are_added_once_and_listed(program: Program) -> None:
    assert program("team", "add", "sales", "--json").value == {"team": "sales"}
    again = program("--json", "team", "add", "sales")
    assert (again.status, again.out, again.err) == (4, "", "team sales exists already\n")
    bad = program.within("team", "add", "Sales Team")
    assert (bad.status, bad.out, len(bad.err.splitlines())) == (2, "", 1)
    assert [team["team"] for team in program("team", "--json", "list").value] == ["sales"]
    table = program("team", "list")
    assert [line.split()[0] for line in table.out.splitlines()] == ["team", "sales"]
    assert "\x1b" not in table.out


def test_keys_come_by_standard_input_or_file_and_are_never_seen_again(program: Program) -> None:
    with program.administration() as admin:
        admin.add_team("sales")
    file = program.folder / "key"
    file.write_text(KEY + "-2\r\n")
    first = program("key", "add", "sales", typed=KEY + "\n")
    second = program("key", "add", "sales", "--key-file", str(file), "--per-minute", "7", "--json")
    assert (first.status, first.err) == (0, "")
    assert second.value.keys() == {"team", "keyId", "state"}
    assert (second.value["team"], second.value["state"]) == ("sales", "standby")
    listed = program("key", "list", "sales", "--json")
    assert [(key["state"], key["perMinute"]) for key in listed.value] == [("active", None), ("standby", 7)]
    table = program("key", "list", "sales")
    assert second.value["keyId"] in table.out
    file.unlink()
    seen = "".join(done.out + done.err for done in (first, second, listed, table)).encode()
    stored = b"".join(path.read_bytes() for path in (program.folder / "var").iterdir())
    assert b"canary" not in seen + stored
    clock = SystemClock()
    with open_storage(program.settings, clock) as storage:
        lent = Directory(storage.directory.rows(), storage.vault, clock).key_of(1)
    assert isinstance(lent, LentKey)
    assert lent.secret == Secret(KEY)


@pytest.mark.parametrize("typed", ["", "\n", "short\n", "sandbox-key-1\nsandbox-key-2\n", "sandbox-kéy-canary\n"])
def test_what_cannot_be_a_key_is_refused_without_being_repeated(program: Program, typed: str) -> None:
    with program.administration() as admin:
        admin.add_team("sales")
    done = program.within("key", "add", "sales", typed=typed)
    assert (done.status, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert "canary" not in done.err
    with program.administration() as admin:
        assert not admin.keys("sales")


def test_a_key_as_an_argument_is_a_usage_error(program: Program) -> None:
    assert program.within("key", "add", "sales", KEY).status == 2


def test_tenants_are_added_shown_suspended_and_resumed(program: Program) -> None:
    with program.administration() as admin:
        admin.add_team("sales")
    options = ("--require-idempotency-key", "--guaranteed-per-minute", "9", "--implicit-window-s", "0")
    added = program("tenant", "add", "shop", "--team", "sales", *options, "--json").value
    assert added == {
        "tenant": "shop",
        "team": "sales",
        "state": "active",
        "require_idempotency_key": True,
        "guaranteed_per_minute": 9,
        "implicit_window_s": 0,
        "metadata": {"defaults": {}, "enforced": {}},
    }
    assert program("tenant", "suspend", "shop", "--json").value == {**added, "state": "suspended"}
    assert program("tenant", "list", "--json").value == [{**added, "state": "suspended"}]
    assert program.within("tenant", "resume", "shop").out == "tenant shop is active\n"
    assert program("tenant", "show", "shop", "--json").value == added
    assert "require_idempotency_key  yes" in program.within("tenant", "show", "shop").out
    assert program.within("tenant", "list").out.splitlines()[1].split()[:3] == ["shop", "sales", "active"]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("tenant", "add", "shop", "--team", "sales"), 4),
        (("tenant", "add", "till", "--team", "nobody"), 4),
        (("tenant", "add", "Till", "--team", "sales"), 2),
        (("tenant", "add", "till"), 2),
        (("tenant", "suspend", "nobody"), 4),
        (("key", "list", "nobody"), 4),
        (("token", "issue", "nobody"), 4),
        (("token", "issue", "shop", "--expires-in", "90"), 2),
        (("token", "issue", "shop", "--expires-in", "999999999d"), 2),
        (("token", "revoke", "aaaaaaaaaa"), 4),
        (("tenant", "metadata", "shop", "--default", "colour=red"), 2),
        (("tenant", "metadata", "shop", "--enforce", "gatewayTenant=1"), 2),
        (("tenant", "metadata", "shop", "--enforce", "a=1", "--enforce", "a=2"), 2),
        (("orders", "show", "01890a5d-ac96-774b-bcce-b302099a8057"), 4),
        (("orders", "list", "--outcome", "lost"), 2),
    ],
)
def test_what_cannot_be_done_says_so_on_standard_error_alone(
    program: Program, arguments: tuple[str, ...], status: int
) -> None:
    done = with_tenant(program).within(*arguments, "--json", typed=KEY)
    assert (done.status, done.out) == (status, ""), done.err
    assert done.err


def test_metadata_is_set_whole_keeps_its_spelling_and_is_cleared(program: Program) -> None:
    with_tenant(program)
    enforced = 'weights={"a": 1.50, "b": 1e2}'
    done = program("tenant", "metadata", "shop", "--default", 'channel="wéb"', "--enforce", enforced, "--json")
    assert '"enforced":{"weights":{"a": 1.50, "b": 1e2}}' in done.out
    assert done.value["metadata"]["defaults"] == {"channel": "wéb"}
    assert program.within("tenant", "metadata", "shop", "--json") == done
    assert 'default channel          "wéb"' in program.within("tenant", "metadata", "shop").out
    program.within("tenant", "metadata", "shop", "--default", "a=null")
    with program.administration() as admin:
        assert (admin.tenant("shop").defaults, admin.tenant("shop").enforced) == ({"a": "null"}, {})
    assert program.within("tenant", "metadata", "shop", "--clear", "--json").value["metadata"]["defaults"] == {}


def test_tokens_are_printed_once_and_known_by_their_ids(program: Program) -> None:
    with_tenant(program)
    told = program("token", "issue", "shop")
    text = told.out.removesuffix("\n")
    token = parse(text)
    assert token is not None, told
    assert text not in told.err
    issued = program("token", "issue", "shop", "--expires-in", "90d", "--json").value
    assert issued.keys() == {"tokenId", "token", "tenant", "expiresAt"}
    with program.administration() as admin:
        first, second = admin.tokens("shop")
    assert (first.token_id, first.expires_ms) == (token.token_id, None)
    assert (second.token_id, second.expires_ms) == (issued["tokenId"], second.created_ms + 90 * 86_400_000)
    refused = program.within("token", "revoke", text)
    assert refused.status == 2
    assert token.token_id in refused.err
    assert token.secret not in refused.err
    revoked = program("token", "revoke", token.token_id, "--json").value
    listed = program("token", "list", "shop", "--json")
    assert [one["revokedAt"] for one in listed.value] == [revoked["revokedAt"], None]
    assert [one["lastUsedDay"] for one in listed.value] == [None, None]
    alter(program.folder / "var/ordergate.db", "UPDATE tokens SET last_used_day = 20000 WHERE revoked_ms IS NULL")
    again = program("token", "list", "shop", "--json").value
    assert [one["lastUsedDay"] for one in again] == [None, "2024-10-04"]
    table = program.within("token", "list", "shop").out
    assert token.token_id in table and "2024-10-04" in table
    assert token.secret not in table + listed.out
