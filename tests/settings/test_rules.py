"""What settings ask of each other."""

from collections.abc import Mapping

import pytest

from gateway.errors import BadSettings
from gateway.settings import load_settings
from gateway.settings.rules import is_loopback

ANY = "0.0.0.0"  # noqa: S104  # what the rules are about
GOOD_TOKEN = "5f1c0c2e9ab84d63b7"


def wrong(environ: Mapping[str, str]) -> list[str]:
    """The faults of these settings, given as `section.field`, as `section.field: what`; none is fine."""
    variables = {f"ORDERGATE_{name.replace('.', '__').upper()}": text for name, text in environ.items()}
    try:
        load_settings("/dev/null", variables)
    except BadSettings as fault:
        return [line.split(":1:1: ", 1)[1] for line in fault.faults]
    return []


@pytest.mark.parametrize(
    ("drain", "timeout", "wait", "fine"),
    [("13", "10", "1", True), ("12.9", "10", "1", False), ("3.4", "0.1", "1.3", True), ("25", "22", "1", True)],
)
def test_draining_leaves_time_for_the_longest_order(drain: str, timeout: str, wait: str, fine: bool) -> None:
    found = wrong({"shutdown.drain_s": drain, "upstream.timeout_s": timeout, "admission.max_wait_s": wait})
    assert (found == []) is fine


def test_a_rule_is_told_where_the_setting_that_breaks_it_stands() -> None:
    with pytest.raises(BadSettings) as caught:
        load_settings("/dev/null", {"ORDERGATE_UPSTREAM__TIMEOUT_S": "30"})
    (line,) = caught.value.faults
    assert line == (
        "$ORDERGATE_UPSTREAM__TIMEOUT_S:1:1: shutdown.drain_s: is 25, but must be at least "
        "upstream.timeout_s (30) + admission.max_wait_s (1) + 2 = 33"
    )


def test_a_rule_is_not_asked_about_what_is_wrong_already() -> None:
    assert len(wrong({"upstream.timeout_s": "x", "shutdown.drain_s": "1"})) == 1
    assert len(wrong({"shutdown.drain_s": "1", "admin_api.token": "x", "storage.url": "x", "log.level": "x"})) == 4


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:3000",
        "http://LOCALHOST./x",
        "http://127.9.9.9",
        "http://[::1]:80/",
        "https://offers.example",
        "https://offers.example:443/a/b/",
    ],
)
def test_a_good_base_url(url: str) -> None:
    assert wrong({"upstream.base_url": url}) == []


@pytest.mark.parametrize(
    "url",
    [
        "offers.example", "//offers.example", "ftp://offers.example", "file:///etc/x", "https://", "https:///x",
        "https://:80", "https://a:b@offers.example", "https://@offers.example", "https://offers.example?",
        "https://offers.example/?a=b", "https://offers.example#", "https://offers.example:0", "https://offers.example:x",
        "https://offers.example:99999", "https://[::1", "https://offers example", "https://öffers.example",
        "https://offers.example\\@evil.example", "https://offers.example/\r\nx: y", " https://offers.example",
        "javascript:alert(1)", "/",
    ],
)  # fmt: skip
def test_a_bad_base_url_is_refused(url: str) -> None:
    (found,) = wrong({"upstream.base_url": url})
    assert found.startswith("upstream.base_url: ")


@pytest.mark.parametrize("host", ["offers.example", "10.0.0.1", "localhost.evil.example", "127.1", ANY, "[::]"])
def test_plain_http_to_another_machine_must_be_asked_for(host: str) -> None:
    (found,) = wrong({"upstream.base_url": f"http://{host}"})
    assert found.startswith("upstream.base_url: would send upstream keys in the clear")
    assert wrong({"upstream.base_url": f"http://{host}", "upstream.allow_plain_http": "true"}) == []
    assert wrong({"upstream.base_url": f"https://{host}"}) == []


@pytest.mark.parametrize("host", [ANY, "::", "10.0.0.1", "gateway.internal", "0"])
def test_an_open_admin_listener_needs_a_token(host: str) -> None:
    assert wrong({"admin_api.host": host}) == [
        "admin_api.host: is open to other machines, so admin_api.token must be set"
    ]
    assert wrong({"admin_api.host": host, "admin_api.token": GOOD_TOKEN}) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "LocalHost.", "::1", "::ffff:127.0.0.1"])
def test_this_machine_needs_none(host: str) -> None:
    assert is_loopback(host)
    assert wrong({"admin_api.host": host}) == []


@pytest.mark.parametrize(
    "token",
    [
        "changeme", "admin", "secret", "ordergate", "x" * 15, "0123456789abcde", "x" * 40, "abababababababababab",
        "changeme-changeme-changeme", "ordergate-admin-token", "ADMIN_SECRET_PASSWORD",
        "replace-me-with spaces in it", "your-secret-token-here", "1234567890123456é",
        "5f1c0c2e9ab84d63b7\n5f1c0c2e9ab84d63b7",
    ],
)  # fmt: skip
def test_a_weak_or_unusable_admin_token_is_refused(token: str) -> None:
    (found,) = wrong({"admin_api.token": token})
    assert found.startswith("admin_api.token: ")
    assert len(token) < 10 or token not in found


@pytest.mark.parametrize("token", [GOOD_TOKEN, "correct-horse-battery", "a1b2c3d4e5f60718", "~!#$%^&*()_+{}|:<>?"])
def test_a_token_of_its_own_is_taken(token: str) -> None:
    assert wrong({"admin_api.token": token}) == []


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://var/a.db", "sqlite:var/a.db", "sqlite:///", "sqlite:////", "sqlite:///:memory:", "sqlite:///var/",
        "sqlite:///a.db?mode=ro", "sqlite:///a#b",
        "sqlite+aiosqlite:///a.db", "mysql://h/db", "var/a.db",
        "postgres://h/d", "postgresql://", "SQLITE:///a.db", "sqlite:///a\nb", "sqlite:///a\0b",
    ],
)  # fmt: skip
def test_a_bad_storage_url_is_refused(url: str) -> None:
    (found,) = wrong({"storage.url": url})
    assert found.startswith("storage.url: ")


@pytest.mark.parametrize(
    "url", ["sqlite:///a", "sqlite:////srv/a.db", "sqlite:///../a b.db", "postgresql://u:p@h/d?x=y"]
)
def test_a_good_storage_url(url: str) -> None:
    assert wrong({"storage.url": url}) == []


def test_both_listeners_on_one_port_is_a_fault() -> None:
    assert wrong({"admin_api.port": "8080"}) == [
        "admin_api.port: is 8080, the same as tenant_api.port on the same host"
    ]
    assert wrong({"admin_api.port": "0", "tenant_api.port": "0"}) == []
    assert wrong({"admin_api.port": "8080", "tenant_api.host": "10.0.0.1"}) == []
