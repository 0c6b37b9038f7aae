"""A ledger of one's own whose master key is rotated: what stands where, read as it is on the disk."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from gateway.broker.administration import NewTenant
from gateway.broker.key_file import KeyFile
from gateway.broker.rotation import Rotated
from gateway.broker.vault import Secret
from gateway.clock import SystemClock
from gateway.settings import Settings, load_settings
from gateway.wiring import Storage, open_administration, open_storage
from gateway.wiring.sealing import rotate_master_key

CLOCK = SystemClock()
TEAMS = ("one", "two")


def upstream_key(team: str) -> str:
    return f"sandbox-key-of-{team}"


class Home:
    """A ledger with two teams, a key each, and the files that it stands on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key_file = folder / "var/master.key"
        self.ledger = folder / "var/ordergate.db"
        self.environ = {
            "ORDERGATE_STORAGE__URL": f"sqlite:///{self.ledger}",
            "ORDERGATE_SECRETS__MASTER_KEY_FILE": str(self.key_file),
        }
        self.token = ""

    @property
    def settings(self) -> Settings:
        return load_settings(None, self.environ)

    def fill(self) -> "Home":
        with open_administration(self.settings) as admin:
            for team in TEAMS:
                admin.add_team(team)
                admin.add_key(team, Secret(upstream_key(team)))
            admin.add_tenant(NewTenant(name="shop", team="one"))
            self.token = admin.issue_token("shop").token.text()
        return self

    def rotate(self, *, drop_old: bool = False) -> Rotated:
        return rotate_master_key(self.settings, drop_old=drop_old)

    @property
    def versions(self) -> Any:
        return KeyFile(self.key_file, CLOCK).read().versions

    @property
    def stands_under(self) -> int:
        return int.from_bytes(self.fact("ledger_key")[1:3], "big")

    def fact(self, name: str) -> Any:
        return self.ask("SELECT value FROM meta WHERE name = ?", name)

    def sealed_keys(self) -> dict[str, bytes]:
        """By team."""
        connection = apsw.Connection(str(self.ledger), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            rows: Any = connection.execute(
                "SELECT name, sealed_key FROM upstream_keys JOIN teams USING (team_id)"
            ).fetchall()
            return dict(rows)
        finally:
            connection.close()

    def ask(self, statement: str, *values: Any) -> Any:
        connection = apsw.Connection(str(self.ledger))
        try:
            connection.set_busy_timeout(10_000)
            return connection.execute(statement, values).get
        finally:
            connection.close()

    @contextmanager
    def opened(self) -> Iterator[Storage]:
        with open_storage(self.settings, CLOCK) as storage:
            yield storage

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.ledger.parent.iterdir() if path.is_file()}
