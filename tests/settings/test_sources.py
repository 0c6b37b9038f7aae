"""Where settings come from, which of them wins, and what is shown of them."""

import copy
import pickle
from pathlib import Path

import msgspec
import pytest

from gateway.errors import BadSettings
from gateway.settings import (
    EVERY_SETTING,
    AdminApi,
    Settings,
    Storage,
    changes,
    describe_settings,
    load_settings,
    reloaded,
)

TOKEN = "5f1c0c2e9ab84d63b7"


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(path: str, text: str) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)
    return path


def test_without_file_and_environment_there_are_the_defaults() -> None:
    assert load_settings(None, {}) == Settings()


def test_the_file_named_by_the_option_wins_over_the_variable_and_that_over_the_usual_place() -> None:
    option = write("option.yaml", "tenant_api: {port: 1}")
    variable = write("variable.yaml", "tenant_api: {port: 2, max_connections: 2}")
    write("config/ordergate.yaml", "tenant_api: {port: 3}")
    assert load_settings(option, {"ORDERGATE_CONFIG": variable}).tenant_api.port == 1
    assert load_settings(option, {"ORDERGATE_CONFIG": variable}).tenant_api.max_connections == 2_000
    assert load_settings(None, {"ORDERGATE_CONFIG": variable}).tenant_api.port == 2
    assert load_settings(None, {}).tenant_api.port == 3


def test_a_file_that_was_named_must_be_there() -> None:
    with pytest.raises(BadSettings, match=r"^gone.yaml:1:1: is not there$"):
        load_settings("gone.yaml", {})
    with pytest.raises(BadSettings, match=r"^gone.yaml:1:1: is not there$"):
        load_settings(None, {"ORDERGATE_CONFIG": "gone.yaml"})
    with pytest.raises(BadSettings, match=r"^\.:1:1: cannot be read: Is a directory$"):
        load_settings(".", {})


def test_the_usual_file_is_a_fault_where_it_is_there_but_cannot_be_read() -> None:
    Path("config/ordergate.yaml").mkdir(parents=True)
    with pytest.raises(BadSettings, match=r"^config/ordergate.yaml:1:1: cannot be read: Is a directory$"):
        load_settings(None, {})


def test_the_environment_wins_over_the_file() -> None:
    config = write("a.yaml", "tenant_api: {port: 1, host: '::1'}")
    settings = load_settings(config, {"ORDERGATE_TENANT_API__PORT": "9", "PATH": "/bin", "ORDERGATEX": "1"})
    assert (settings.tenant_api.port, settings.tenant_api.host) == (9, "::1")


def test_every_setting_can_be_given_in_both_ways() -> None:
    lines = {section: f"{section}:\n" for section in dict.fromkeys(info.section for info in EVERY_SETTING)}
    environ = {}
    for info in EVERY_SETTING:
        text = TOKEN if info.default is None else str(info.default).lower()
        lines[info.section] += f"  {info.field}: {text}\n"
        environ[info.variable] = text
    by_file, by_environment = (
        load_settings(write("a.yaml", "".join(lines.values())), {}),
        load_settings(None, environ),
    )
    assert by_file == by_environment == Settings(admin_api=AdminApi(token=TOKEN))
    assert len(by_file.sources) == len(by_environment.sources) == len(EVERY_SETTING)


def test_an_empty_section_and_an_empty_file_change_nothing() -> None:
    assert load_settings(write("a.yaml", "tenant_api:\nlog: {}\n"), {}) == Settings()
    assert load_settings(write("b.yaml", "# nothing\n"), {}) == Settings()
    assert load_settings("/dev/null", {}) == Settings()


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("tenant_api.max_body_bytes", "1_000", 1_000),
        ("upstream.timeout_s", "3", 3.0),
        ("upstream.timeout_s", "0.5", 0.5),
        ("upstream.timeout_s", "1.5e+0", 1.5),
        ("admin_api.metrics_token", "true", True),
        ("admin_api.token", "null", None),
        ("admin_api.token", "2001-01-01x0123456", "2001-01-01x0123456"),
        ("secrets.master_key_file", "on", "on"),
        ("secrets.master_key_file", "2001-01-01", "2001-01-01"),
        ("secrets.master_key_file", "010", "010"),
        ("upstream.base_url", "https://offers.example/api/", "https://offers.example/api"),
    ],
)
def test_values_are_read_as_they_look(field: str, text: str, value: object) -> None:
    section, name = field.split(".")
    found = load_settings(write("a.yaml", f"{section}: {{{name}: {text}}}"), {}).value(field)
    assert found == value
    assert type(found) is type(value)


# --- secrets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [TOKEN, TOKEN + "\n", TOKEN + "\r\n"])
def test_a_secret_may_be_the_content_of_a_file(content: str) -> None:
    Path("token").write_bytes(content.encode())
    config = write("a.yaml", "admin_api: {token_file: token}")
    assert load_settings(config, {}).admin_api.token == TOKEN
    assert load_settings(None, {"ORDERGATE_ADMIN_API__TOKEN_FILE": "token"}).admin_api.token == TOKEN
    write("url", "sqlite:///other.db\n")
    assert load_settings(None, {"ORDERGATE_STORAGE__URL_FILE": "url"}).storage.url == "sqlite:///other.db"


def test_a_secret_from_the_environments_file_wins_over_the_file() -> None:
    write("token", "another-" + TOKEN)
    config = write("a.yaml", f"admin_api: {{token: {TOKEN}}}")
    assert load_settings(config, {"ORDERGATE_ADMIN_API__TOKEN_FILE": "token"}).admin_api.token == "another-" + TOKEN


def secretive() -> Settings:
    return load_settings(
        None,
        {"ORDERGATE_ADMIN_API__TOKEN": TOKEN, "ORDERGATE_STORAGE__URL": "postgresql://user:hunter2pass@db/ledger"},
    )


def test_no_secret_is_shown() -> None:
    settings = secretive()
    shown = [repr(settings), str(settings), f"{settings.admin_api}", f"{settings.storage}"]
    shown += [repr(settings.admin_api.__rich_repr__()), repr(settings.storage.__rich_repr__())]
    shown += [repr(settings.__rich_repr__()), repr(describe_settings(settings))]
    assert not [text for text in shown if TOKEN in text or "hunter2pass" in text]
    assert "token='***'" in shown[0]
    assert settings.admin_api.token == TOKEN


def test_what_is_described_tells_value_default_and_source() -> None:
    config = write("a.yaml", "tenant_api:\n  port: 1\nlog:\n  level: info\n")
    rows = {
        row.name: tuple(row)[1:]
        for row in describe_settings(load_settings(config, {"ORDERGATE_UPSTREAM__TIMEOUT_S": "2.50"}))
    }
    assert list(rows) == [info.name for info in EVERY_SETTING]
    assert rows["tenant_api.port"] == ("1", False, "a.yaml:2:9")
    assert rows["log.level"] == ("info", True, "a.yaml:4:10")
    assert rows["upstream.timeout_s"] == ("2.5", False, "$ORDERGATE_UPSTREAM__TIMEOUT_S")
    assert rows["upstream.connect_timeout_s"] == ("2", True, "default")
    assert rows["admin_api.metrics_token"] == ("false", True, "default")
    assert rows["admin_api.token"] == ("none", True, "default")
    assert rows["storage.url"] == ("sqlite:///var/ordergate.db", True, "default")
    hidden = {row.name: row.value for row in describe_settings(secretive())}
    assert (hidden["admin_api.token"], hidden["storage.url"]) == ("***", "***")


# --- the value ----------------------------------------------------------------------------------------------------


def test_settings_are_a_value() -> None:
    one, other = Settings(sources=(("a.b", "x:1:1"),)), Settings()
    assert one == other
    assert hash(one) == hash(other)
    assert one != Settings(admin_api=AdminApi(port=1))
    assert one != "settings"
    assert copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == one  # noqa: S301  # workers are given it so
    with pytest.raises(AttributeError):
        one.admin_api.port = 1  # type: ignore[misc]  # that it cannot be is the point
    with pytest.raises(AttributeError):
        one.admin_api = AdminApi()  # type: ignore[misc]  # as above


def test_changes_tell_what_a_reload_can_do() -> None:
    config = write("a.yaml", "log: {level: debug}\nidempotency: {ttl_s: 7}\ntenant_api: {port: 1}")
    new = load_settings(config, {})
    found = changes(Settings(), new)
    assert found.reloadable == ("idempotency.ttl_s", "log.level")
    assert found.needs_restart == ("tenant_api.port",)
    after = reloaded(Settings(), new)
    assert (after.idempotency.ttl_s, after.log.level, after.tenant_api.port) == (7, "debug", 8080)
    assert changes(after, new).reloadable == ()


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///var/a.db", "var/a.db"),
        ("sqlite:////srv/a b%20.db", "/srv/a b%20.db"),
        ("postgresql://host/db", None),
    ],
)
def test_the_url_tells_the_path(url: str, path: str | None) -> None:
    settings = load_settings(None, {"ORDERGATE_STORAGE__URL": url})
    assert settings.storage.sqlite_path == (None if path is None else Path(path))


def test_structs_can_be_made_by_hand_for_tests() -> None:
    assert msgspec.structs.replace(Settings(), storage=Storage(url="sqlite:///x")).storage.sqlite_path == Path("x")
