"""The lines of `docs/admin-http.md` are typed as they stand there, one after the other, by a shell."""

import json
import re
import subprocess
from typing import Any, Final

from tests.accept.world import a_world
from tests.support.needs import ROOT
from tests.support.stack import outer_environ

PAGE: Final = ROOT / "docs/admin-http.md"
KEY: Final = "sandbox-key-of-the-page"


def blocks() -> list[str]:
    """The page's shell blocks; the first one prepares the others."""
    return re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_each_line_does_what_the_page_says() -> None:
    first, *others = blocks()
    with a_world() as world:
        prepared = first.replace("http://127.0.0.1:8081", world.stack.admin_url)
        names = {"OFFERGRID_KEY": KEY}
        answers: list[Any] = []
        for line in "".join(others).splitlines():
            script = f'{prepared}\ncurl() {{ command curl --fail-with-body "$@"; }}\n{line}\n'
            done = subprocess.run(
                ["bash", "-euc", script], cwd=world.stack.folder, env={**outer_environ(), **names},
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert (done.returncode, done.stderr) == (0, ""), (line, done.stdout, done.stderr)
            answers.append(json.loads(done.stdout))
            if isinstance(answers[-1], dict):
                names |= {name.upper(): str(value) for name, value in answers[-1].items() if name.endswith("Id")}
        (header,) = world.stack.folder.glob("var/admin.header")
        assert header.stat().st_mode & 0o777 == 0o600
        with world.stack.administration() as admin:
            assert [team.name for team in admin.teams()] == ["team"]
            assert [tenant.name for tenant in admin.tenants()] == ["shop"]
    assert answers[0] == {"team": "reseller"}
    assert answers[-1] == {"team": "reseller"}
    assert {"ok": True} in [
        {"ok": answer["ok"]} for answer in answers if isinstance(answer, dict) and "ok" in answer
    ]
    assert KEY not in json.dumps(answers)
