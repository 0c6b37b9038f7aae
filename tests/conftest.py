"""What holds for every test: tests whose system program is absent are left out loudly, or fail in CI."""

from collections import Counter

import pytest

from tests.support.needs import absent, in_ci, missing_line

LEFT_OUT = pytest.StashKey[dict[str, int]]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*programs): system programs that the test cannot run without")
    config.stash[LEFT_OUT] = {}


def _lacking(item: pytest.Item) -> list[str]:
    return absent(tuple(name for mark in item.iter_markers("needs") for name in mark.args))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if in_ci():
        return
    out = [item for item in items if _lacking(item)]
    if out:
        items[:] = [item for item in items if item not in set(out)]
        config.hook.pytest_deselected(items=out)
        config.stash[LEFT_OUT] = dict(Counter(name for item in out for name in _lacking(item)))
        if hasattr(config, "workeroutput"):
            # A worker of pytest-xdist prints no summary: it tells the process that does.
            config.workeroutput["left_out"] = config.stash[LEFT_OUT]


def pytest_runtest_setup(item: pytest.Item) -> None:
    # Only in CI does a test that lacks something get this far.
    for name in _lacking(item):
        pytest.fail(f"{name} is absent, and in CI no test is left out: add it to .ci/run", pytrace=False)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """pytest-xdist: every worker collects every test, so the last worker's count is the count."""
    config: pytest.Config = node.config  # type: ignore[attr-defined]  # the worker's handle has no public type
    left_out = getattr(node, "workeroutput", {}).get("left_out", {})
    if left_out:
        config.stash[LEFT_OUT] = left_out


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for name, tests in sorted(config.stash[LEFT_OUT].items()):
        terminalreporter.write_line(missing_line(name, tests))
