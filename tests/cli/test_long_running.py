"""`serve`, `sandbox` and `demo`: what they say when ready, how they end, and what a taken port looks like."""

import json
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.cli.conftest import Program


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def line_of(process: "subprocess.Popen[str]", start: str) -> tuple[str, list[str]]:
    """The first line on standard output that begins so, and those before it."""
    assert process.stdout is not None
    before: list[str] = []
    for line in process.stdout:
        if line.startswith(start):
            return line.removesuffix("\n"), before
        before.append(line)
    assert process.stderr is not None
    raise AssertionError(f"no line {start!r}: {before} {process.stderr.read()}")


def end(process: "subprocess.Popen[str]", number: signal.Signals) -> tuple[int, str]:
    """Exit status and standard error."""
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def curl(line: str) -> tuple[int, dict[str, object]]:
    """The printed line as a person pastes it, with the status behind the body."""
    done = subprocess.run(
        ["bash", "-c", line + " -w '\\n%{http_code}'"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    body, status = done.stdout.rsplit("\n", 1)
    return int(status), json.loads(body)


def test_serve_ends_with_0_at_ctrl_c_and_runs_one_worker_only(program: Program) -> None:
    refused = program("serve", "--workers", "2")
    assert refused.status == 2
    assert "this version runs one worker" in refused.err
    with program.started("serve") as process:
        assert process.stderr is not None
        while '"ready"' not in (line := process.stderr.readline()):
            assert line, "it ended before it was ready"
        status, _ = end(process, signal.SIGINT)
    assert status == 0


def test_serve_names_a_taken_port_in_one_line(program: Program) -> None:
    with taken_port() as port:
        done = program("serve", ORDERGATE_ADMIN_API__PORT=str(port), ORDERGATE_LOG__LEVEL="error")
    assert (done.status, done.out) == (1, "")
    assert done.err == f"admin_api: 127.0.0.1:{port} cannot be listened on: Address already in use\n"


def test_sandbox_says_where_it_listens_and_keeps_the_limits_it_was_given(program: Program) -> None:
    with program.started("sandbox", "--port", "0", "--per-minute", "1") as process:
        line, before = line_of(process, "the sandbox")
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found is not None
        assert before == []
        headers = {"x-api-key": "sandbox-key-1"}
        statuses = [
            httpx.get(found[0] + "/reseller/orders", headers=headers, trust_env=False).status_code for _ in "12"
        ]
        assert statuses == [200, 429]
        port = found[0].rpartition(":")[2]
        again = program("sandbox", "--port", port)
        assert (again.status, again.out) == (1, "")
        assert again.err == f"sandbox: 127.0.0.1:{port} cannot be listened on: Address already in use\n"
        assert end(process, signal.SIGINT) == (0, "")


def test_demo_takes_an_order_as_it_printed_it_and_a_second_one_reuses_what_is_there(program: Program) -> None:
    # Whatever OfferGrid the settings name, the demo must never reach it.
    with taken_port() as real:
        program.environ["ORDERGATE_UPSTREAM__BASE_URL"] = f"http://127.0.0.1:{real}"
        first = run_demo(program, signal.SIGINT)
        second = run_demo(program, signal.SIGTERM)
    token = re.compile(r"ogt_[a-z2-7]+_[a-z2-7]+")
    assert token.findall(first) != token.findall(second)
    with program.administration() as admin:
        assert [team.name for team in admin.teams()] == ["demo"]
        assert [tenant.name for tenant in admin.tenants()] == ["demo"]
        assert [key.state for key in admin.keys("demo")] == ["active"]
        assert [issued.revoked_ms is None for issued in admin.tokens("demo")] == [False, True]
    orders = program("orders", "list", "--json").value
    assert [order["outcome"] for order in orders] == ["placed", "placed"]


def run_demo(program: Program, stop: signal.Signals) -> str:
    """One demo: everything that it printed works, and it ends with 0. The curl line."""
    with program.started("demo", "--sandbox-port", "0") as process:
        line, before = line_of(process, "curl ")
        assert before[0].startswith("Ordergate is running")
        status, body = curl(line)
        assert (status, bool(body["orderId"])) == (201, True)
        _, said = line_of(process, "Ctrl-C")
        urls = re.findall(r"http://\S+", "".join(said))
        assert [url.rpartition("/")[2] for url in urls] == ["docs", "metrics", "orders"]
        shown = [httpx.get(url, trust_env=False) for url in urls]
        assert [answer.status_code for answer in shown] == [200, 200, 200]
        assert [order["orderId"] for order in shown[2].json()] == [body["orderId"]]
        assert "var/admin.token" in "".join(said)
        assert (program.folder / "var/admin.token").exists()
        assert end(process, stop) == (0, ""), "no log line may bury the curl line"
    return line


def test_demo_names_a_taken_port_and_leaves_the_running_demo_its_token(program: Program) -> None:
    with taken_port() as port:
        for said, arguments, environ in (
            ("sandbox", ("--sandbox-port", str(port)), {}),
            ("sandbox", (), {"ORDERGATE_UPSTREAM__BASE_URL": f"http://localhost:{port}"}),
            ("tenant_api", ("--sandbox-port", "0"), {"ORDERGATE_TENANT_API__PORT": str(port)}),
        ):
            done = program("demo", *arguments, **environ)
            assert (done.status, done.out) == (1, "")
            assert done.err == f"{said}: 127.0.0.1:{port} cannot be listened on: Address already in use\n"
    with program.administration() as admin:
        assert not admin.teams()


def test_demo_as_json_is_one_value(program: Program) -> None:
    with program.started("demo", "--sandbox-port", "0", "--json") as process:
        line, before = line_of(process, "{")
        assert before == []
        value = json.loads(line)
        assert curl(value["curl"])[0] == 201
        taken = httpx.get(value["sandboxUrl"] + "/sandbox/orders", trust_env=False).json()
        assert len(taken) == 1
        second = program("demo", "--sandbox-port", "0")
        assert second.status == 5
        assert curl(value["curl"])[0] == 201, "a demo that cannot start must leave this one its token"
        assert end(process, signal.SIGTERM) == (0, "")


def test_demo_keeps_away_from_a_ledger_that_has_other_teams(program: Program) -> None:
    with program.administration() as admin:
        admin.add_team("reseller")
    refused = program("demo", "--sandbox-port", "0")
    assert refused.status == 4
    assert "has a team reseller" in refused.err
