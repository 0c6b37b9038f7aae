"""The table of settings, and that `config/ordergate.yaml` says the same."""

import re
from pathlib import Path

import pytest

from gateway.settings import EVERY_SETTING, Settings, load_settings
from gateway.settings.table import plain

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config" / "ordergate.yaml"

# What operators were told; a default that changes is news to them.
DEFAULTS: dict[str, dict[str, object]] = {
    "tenant_api": {
        "host": "127.0.0.1", "port": 8080, "max_body_bytes": 262144, "max_header_bytes": 16384,
        "header_timeout_s": 5, "body_timeout_s": 10, "idle_timeout_s": 60, "max_connections": 2000,
    },
    "admin_api": {"host": "127.0.0.1", "port": 8081, "token": None, "metrics_token": False},
    "upstream": {
        "base_url": "http://localhost:3000", "allow_plain_http": False, "connect_timeout_s": 2, "timeout_s": 10,
        "max_in_flight": 100, "keepalive_idle_s": 3, "max_response_bytes": 1048576, "max_listing_bytes": 67108864,
        "breaker_failures": 5, "breaker_open_s": 5,
    },
    "storage": {"url": "sqlite:///var/ordergate.db", "min_free_bytes": 67108864},
    "secrets": {"master_key_file": "var/master.key"},
    "budget": {"per_minute": 100, "per_hour": 10000, "reserved_per_minute": 5, "guaranteed_fraction": 0.5},
    "admission": {"max_wait_s": 1, "max_waiting": 1000},
    "idempotency": {"ttl_s": 86400, "implicit_window_s": 300},
    "reconcile": {"interval_s": 5, "settle_after_s": 60, "absence": "witnessed", "watch_s": 86400},
    "shutdown": {"drain_s": 25},
    "log": {"level": "info", "format": "json"},
}  # fmt: skip


def written() -> dict[str, tuple[str, str]]:
    """`config/ordergate.yaml` read as people read it: each setting's text, and the comment above it."""
    found: dict[str, tuple[str, str]] = {}
    section, comment = "", ""
    for line in CONFIG.read_text().splitlines():
        if heading := re.fullmatch(r"(\w+):", line):
            section, comment = heading[1], ""
        elif setting := re.fullmatch(r"  (?:# )?([a-z_]+): ([^ ]+)", line):
            found[f"{section}.{setting[1]}"] = setting[2], comment.strip()
            comment = ""
        else:
            comment += line.removeprefix("  #")
    return found


def test_the_defaults_are_what_operators_were_told() -> None:
    told = {f"{section}.{field}": value for section, fields in DEFAULTS.items() for field, value in fields.items()}
    assert {info.name: info.default for info in EVERY_SETTING} == told


def test_the_written_file_loads_and_is_the_defaults() -> None:
    assert load_settings(str(CONFIG), {}) == Settings()


def test_the_written_file_names_every_setting_in_the_tables_order() -> None:
    assert list(written()) == [info.name for info in EVERY_SETTING]


@pytest.mark.parametrize("info", EVERY_SETTING, ids=lambda info: info.name)
def test_the_written_file_gives_value_reason_unit_and_reload(info: object) -> None:
    row = next(row for row in EVERY_SETTING if row is info)
    text, comment = written()[row.name]
    unit = row.expect if row.unit in {"", "choice"} else row.unit
    assert text == ("(none)" if row.default is None else plain(row.default))
    assert comment == f"{row.reason} [{unit}{', reload' if row.reload else ''}]"


def test_every_setting_says_why_it_is_there() -> None:
    assert not [info.name for info in EVERY_SETTING if len(info.reason) < 10 or not info.reason.endswith(".")]
    assert [info.unit for info in EVERY_SETTING if info.field.endswith("_s")] == ["seconds"] * 14
    assert {info.unit for info in EVERY_SETTING if info.field.endswith("_bytes")} == {"bytes"}
