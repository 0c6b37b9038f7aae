"""`generated/` is what the generator makes of the published page today, nothing else and nothing edited."""

import subprocess
from typing import Final

from tests.rules.source import ROOT

GENERATOR: Final = ROOT / ".venv-codegen/bin/python"


def test_generated_code_is_fresh() -> None:
    outcome = subprocess.run([GENERATOR, "-m", "codegen", "--check"], cwd=ROOT, capture_output=True, text=True)
    told = outcome.stdout + outcome.stderr
    assert outcome.returncode == 0, (
        f"generated/ is not what codegen/ makes: run make generate, never edit it\n{told}"
    )
