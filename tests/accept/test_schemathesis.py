"""A judge from outside: schemathesis reads each listener's own description and holds the listener to it."""

import subprocess
import sys
from pathlib import Path

from tests.accept.world import World, a_world

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
# Left out: "valid data is accepted". It invents idempotency keys, reuses them with other bodies, and sends two tokens
# at once; each of these is refused, as it should be.
LEFT_OUT = "positive_data_acceptance"


def _judged(folder: Path, url: str, token: str, *more: str) -> None:
    command = [
        str(SCHEMATHESIS), "run", f"{url}/openapi.json", "--url", url, "--header", f"Authorization: Bearer {token}",
        "--checks", "all", "--exclude-checks", LEFT_OUT, "--phases", "examples,coverage,fuzzing",
        "--max-examples", "15", "--seed", "7", "--warnings", "off", "--continue-on-failure", *more,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "No issues found" in done.stdout, done.stdout[-6000:]


def test_tenants_interface_is_as_it_is_described(world: World, tmp_path: Path) -> None:
    _judged(tmp_path, world.stack.tenant_url, world.stack.token)
    assert world.placed, "orders were among what it tried"


def test_admin_interface_is_as_it_is_described(tmp_path: Path) -> None:
    # It asks for more looks than the reserve has calls.
    with a_world(admin_api__metrics_token="true", budget__reserved_per_minute="1000") as world:
        _judged(tmp_path, world.stack.admin_url, world.stack.admin_token, "--max-examples", "8")


def test_metrics_without_a_token_are_as_they_are_described(world: World, tmp_path: Path) -> None:
    _judged(tmp_path, world.stack.admin_url, world.stack.admin_token, "--include-path", "/metrics")
