"""Every fault at once, each with its place, and nothing that a settings file should not be able to do."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadSettings
from gateway.settings import EVERY_SETTING, SettingInfo, load_settings
from gateway.settings.document import read_document

ENVIRON: Mapping[str, str] = {}
NOTHING = (
    "a.yaml:11:12: budget.per_hour: must be a whole number from 0 to 100000000, "
    "not nothing (leave the line out to use the default)"
)


def faults(tmp_path: Path, text: str | bytes = b"", environ: Mapping[str, str] = ENVIRON) -> list[str]:
    """What is wrong, without the directory's name."""
    config = tmp_path / "a.yaml"
    config.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadSettings) as caught:
        load_settings(str(config), environ)
    assert caught.value.exit_code == 3
    return [line.removeprefix(f"{tmp_path}/") for line in caught.value.faults]


def test_all_faults_are_told_in_the_order_in_which_they_stand(tmp_path: Path) -> None:
    text = """\
tenant_api:
  port: true
  prot: 80
  host: 8
admin_ap:
  port: 1
log: {level: warn, format: [json]}
budget:
  per_minute: 1.5
  guaranteed_fraction: 1.01
  per_hour:
"""
    environ = {"ORDERGATE_UPSTREAM__TIMEOUT_S": "0", "ORDERGATE_TENANT_API__HOTS": "x"}
    assert faults(tmp_path, text, environ) == [
        "a.yaml:2:9: tenant_api.port: must be a whole number from 0 to 65535, not true or false",
        "a.yaml:3:3: tenant_api.prot: there is no such setting; did you mean port?",
        "a.yaml:4:9: tenant_api.host: must be a host name or an IP address, not a number (put it in quotes)",
        "a.yaml:5:1: admin_ap: there is no such section; did you mean admin_api?",
        "a.yaml:7:14: log.level: must be one of debug, info, warning, error, not this text",
        "a.yaml:7:28: log.format: must be one of json, console, not a list",
        "a.yaml:9:15: budget.per_minute: must be a whole number from 0 to 1000000, not 1.5",
        "a.yaml:10:24: budget.guaranteed_fraction: must be a number from 0 to 1, not 1.01",
        NOTHING,
        "$ORDERGATE_TENANT_API__HOTS:1:1: there is no such setting; did you mean ORDERGATE_TENANT_API__HOST?",
        "$ORDERGATE_UPSTREAM__TIMEOUT_S:1:1: upstream.timeout_s: must be a number above 0 to 86400, not 0",
    ]


NUMBERS = [info for info in EVERY_SETTING if isinstance(info.default, int | float) and info.default is not False]


@pytest.mark.parametrize("info", NUMBERS, ids=lambda info: info.name)
def test_every_number_has_a_least_and_a_most(tmp_path: Path, info: SettingInfo) -> None:
    section, field = (name := info.name).split(".")
    for text in (
        "-1",
        "1e17",
        "9" * 30,
        "9" * 400,
        ".nan",
        ".inf",
        "-.inf",
        "1:30",
        "0x10",
        "yes",
        "[1]",
        "{a: 1}",
    ):
        found = faults(tmp_path, f"{section}:\n  {field}: {text}\n")
        assert len(found) == 1, text
        assert found[0].startswith(f"a.yaml:2:{len(field) + 5}: {name}: must be a")
    for text in ("-1", "1e17", "9" * 400, "9" * 5000, "nan", "inf", "-inf", "0x10", "true", "null", "1e999", "١"):
        found = faults(tmp_path, environ={f"ORDERGATE_{section}__{field}".upper(): text})
        assert len(found) == 1, text
        assert f": {name}: must be a" in found[0]


@pytest.mark.parametrize("field", ["host", "port"])
@pytest.mark.parametrize("value", ["", "a b", "http://a", "[::1]", "65536", "-1"])
def test_listeners_addresses_are_checked(tmp_path: Path, field: str, value: str) -> None:
    if (field, value) in {("host", "65536"), ("host", "-1")}:
        value += "/"
    assert len(faults(tmp_path, environ={f"ORDERGATE_TENANT_API__{field.upper()}": value})) == 1


@pytest.mark.parametrize("text", ["1", "yes", "'true'", "on"])
def test_truth_is_true_or_false(tmp_path: Path, text: str) -> None:
    assert "must be true or false" in faults(tmp_path, f"admin_api: {{metrics_token: {text}}}")[0]


# --- what YAML could do -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("log: {level: info}\nlog: {}", "a.yaml:2:1: log: is there twice, first in line 1"),
        ("log:\n  level: info\n  level: info", "a.yaml:3:3: log.level: is there twice, first in line 2"),
        ("log: &a {level: info}", "a.yaml:1:6: anchors (&) are not used here"),
        ("log: {level: !!str info}", "a.yaml:1:14: tags (!) are not used here"),
        ("log: !!python/object/apply:os.abort []", "a.yaml:1:6: tags (!) are not used here"),
        ("log: {level: *a}", "a.yaml:1:14: aliases (*) are not used here: write the value itself"),
        ("log: &a {level: info, x: *a}", "a.yaml:1:26: aliases (*) are not used here: write the value itself"),
        ("- log", "a.yaml:1:1: must hold sections (`tenant_api:`, …) with settings in them"),
        ("text", "a.yaml:1:1: must hold sections (`tenant_api:`, …) with settings in them"),
        ("log: json", "a.yaml:1:6: log: must hold settings, each on a line of its own"),
        ("log: [1]", "a.yaml:1:6: log: must hold settings, each on a line of its own"),
        ("log:\n  ? [a]\n  : 1", "a.yaml:2:5: log: a name must be plain text"),
        ("? {a: b}\n: 1", "a.yaml:1:3: a name must be plain text"),
        ("log: {level: info", "a.yaml:1:18: cannot be read as YAML: expected ',' or '}', but got '<stream end>'"),
        ("a: b: c", "a.yaml:1:5: cannot be read as YAML: mapping values are not allowed here"),
        (
            "log:\n\tlevel: info",
            "a.yaml:2:1: cannot be read as YAML: found character '\\t' that cannot start any token",
        ),
        ("log: {}\n---\nlog: {}", "a.yaml:2:1: cannot be read as YAML: but found another document"),
        (b"log:\n  # \xff\n", "a.yaml:2:5: is not UTF-8"),
        ("log: {}\n# é \x07", "a.yaml:2:5: holds a character that YAML does not allow"),
        ("[" * 100_000, "a.yaml:1:5: is nested too deeply to be settings"),
        ("{a: " * 100_000, "a.yaml:1:17: is nested too deeply to be settings"),
        ("#" * (1 << 20) + "\n", "a.yaml:1:1: is larger than 1048576 bytes"),
        ("a:\n" * 300_000, "a.yaml:1000:1: holds far more than there are settings; nothing after this is read"),
        ("'a\\e[31m': {}", "a.yaml:1:1: a\\e[31m: there is no such section"),
        ('"a\\e[31m": {}', "a.yaml:1:1: 'a\\x1b[31m': there is no such section"),
        ("a" * 1_000 + ": {}", f"a.yaml:1:1: {'a' * 60}…: there is no such section"),
        ("log: {level_file: x}", "a.yaml:1:7: log.level_file: there is no such setting; did you mean level?"),
        ("secrets: {master_key: x}", "there is no such setting; did you mean master_key_file?"),
        ("<<: {log: {}}", "a.yaml:1:1: <<: there is no such section"),
    ],
)
def test_what_settings_do_not_need_is_refused(tmp_path: Path, text: str | bytes, line: str) -> None:
    found = faults(tmp_path, text)
    assert [fault for fault in found if fault.endswith(line)], found


def test_a_bomb_of_aliases_is_refused_without_being_built(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 200))
    assert any("aliases (*) are not used here" in line for line in faults(tmp_path, bomb))


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    assert read_document(b"\xef\xbb\xbflog: {}", "a").faults == ()


@given(st.binary(max_size=60) | st.text("log:{}[]&*!|>-?#'\",\n\t level<<%@`", max_size=60).map(str.encode))
def test_whatever_is_in_a_file_it_is_read_or_refused(content: bytes) -> None:
    document = read_document(content, "a")
    assert all(str(fault).startswith("a:") and fault.place.line >= 1 for fault in document.faults)


# --- the environment ----------------------------------------------------------------------------------------------


def test_an_unknown_variable_is_a_fault_with_the_nearest_name(tmp_path: Path) -> None:
    environ = {"ORDERGATE_TENANT_API_PORT": "1", "ORDERGATE_STORAGE__URL_FIL": "x", "ORDERGATE_": "x"}
    assert faults(tmp_path, environ=environ) == [
        "$ORDERGATE_:1:1: there is no such setting",
        "$ORDERGATE_STORAGE__URL_FIL:1:1: there is no such setting; did you mean ORDERGATE_STORAGE__URL_FILE?",
        "$ORDERGATE_TENANT_API_PORT:1:1: there is no such setting; did you mean ORDERGATE_TENANT_API__PORT?",
    ]


def test_the_variables_that_kubernetes_makes_for_a_service_are_no_settings() -> None:
    links = {
        "ORDERGATE_SERVICE_HOST": "10.0.0.1",
        "ORDERGATE_SERVICE_PORT": "8080",
        "ORDERGATE_SERVICE_PORT_HTTP": "8080",
        "ORDERGATE_PORT": "tcp://10.0.0.1:8080",
        "ORDERGATE_ADMIN_PORT_8081_TCP": "tcp://10.0.0.1:8081",
        "ORDERGATE_ADMIN_PORT_8081_TCP_PROTO": "tcp",
    }
    assert load_settings("/dev/null", links).sources == ()


def test_an_empty_variable_is_a_fault(tmp_path: Path) -> None:
    found = faults(tmp_path, environ={"ORDERGATE_ADMIN_API__TOKEN": ""})
    assert found == [
        "$ORDERGATE_ADMIN_API__TOKEN:1:1: admin_api.token: is empty: unset the variable to use the default"
    ]


# --- secrets ------------------------------------------------------------------------------------------------------


def test_a_secret_is_given_in_one_way_only(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("5f1c0c2e9ab84d63b7")
    text = f"admin_api:\n  token: 5f1c0c2e9ab84d63b7\n  token_file: {tmp_path}/token\n"
    environ = {"ORDERGATE_STORAGE__URL": "sqlite:///a", "ORDERGATE_STORAGE__URL_FILE": "b"}
    in_file, in_environment = faults(tmp_path, text, environ)
    assert in_file == "a.yaml:3:3: admin_api.token: is given twice, as token and as token_file; first in line 2"
    variable = "$ORDERGATE_STORAGE__URL"
    assert in_environment == f"{variable}:1:1: storage.url: is given twice: {variable} and {variable}_FILE"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "is not there"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff", "is not UTF-8"),
        (b"x" * 70_000, "is larger than 65536 bytes"),
    ],
)
def test_a_secrets_file_that_holds_none_is_a_fault(tmp_path: Path, content: bytes | None, what: str) -> None:
    file = tmp_path / "t"
    if content is not None:
        file.write_bytes(content)
    for text, environ in (
        (f"admin_api: {{token_file: {file}}}", {}),
        ("", {"ORDERGATE_ADMIN_API__TOKEN_FILE": str(file)}),
    ):
        (found,) = faults(tmp_path, text, environ)
        assert ": admin_api.token: the file " in found
        assert found.endswith(what)


@pytest.mark.parametrize("path", ["5", "", "[a]", "null", "'\\0'", '"a\\0"'])
def test_a_path_that_is_none_is_a_fault(tmp_path: Path, path: str) -> None:
    assert len(faults(tmp_path, f"admin_api: {{token_file: {path}}}")) == 1


@pytest.mark.parametrize(
    "text",
    [
        "admin_api: {token: CANARY}",
        "admin_api: {token: [CANARY]}",
        "admin_api: {token: CANARY CANARY CANARY}",
        "admin_api: {token: &CANARY x}",
        "admin_api: {token: *CANARY}",
        "admin_api: {token: &CANARY a, host: &CANARY b}",
        "admin_api: {token: !CANARY}",
        "admin_api: {token: !CANARY%zz x}",
        "admin_api: {token: 'CANARY}",
        'admin_api: {token: "\\qCANARY"}',
        "admin_api: {token: %CANARY}",
        "storage: {url: 'mysql://u:CANARY@h'}",
        "storage: {url: 'sqlite:///CANARY?x'}",
        "upstream: {base_url: 'http://u:CANARY@h'}",
        "upstream: {base_url: 'http://h/?key=CANARY'}",
        "upstream: {base_url: 'http://[CANARY'}",
    ],
)
def test_no_fault_repeats_a_secret(tmp_path: Path, text: str) -> None:
    assert "CANARY" not in "\n".join(faults(tmp_path, text))
