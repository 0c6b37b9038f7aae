"""`docs/lifecycle.md` is made from the table of transitions."""

from collections.abc import Iterator

from gateway.core.lifecycle import OUTCOMES, SETTLED, TRANSITIONS, may_follow
from tests.support.needs import ROOT

HEAD = """\
# The life of an order

Each change of an order is one row of this table, and one compare-and-set in the ledger. *Durable before* names what
must not happen before the change is on the disk.

| from | to | by | when | durable before |
| --- | --- | --- | --- | --- |
"""


def rows() -> Iterator[str]:
    for row in TRANSITIONS:
        before = f"`{row.before}`" if row.before else "–"
        after = f"`{row.after}`" if row.after else "forgotten"
        yield f"| {before} | {after} | {row.writer} | {row.when} | {row.durable_before} |\n"


def diagram() -> Iterator[str]:
    yield "\n```mermaid\nstateDiagram-v2\n"
    for arrow in dict.fromkeys((row.before, row.after) for row in TRANSITIONS):
        writers = ", ".join(dict.fromkeys(row.writer for row in TRANSITIONS if (row.before, row.after) == arrow))
        yield f"    {arrow[0] or '[*]'} --> {arrow[1] or '[*]'}: {writers}\n"
    yield "```\n"


def page() -> str:
    return HEAD + "".join(rows()) + "".join(diagram())


def test_the_page_says_what_the_table_says() -> None:
    written = (ROOT / "docs/lifecycle.md").read_text(encoding="utf-8")
    assert written == page(), "make it anew: .venv/bin/python -m tests.core.test_lifecycle_page > docs/lifecycle.md"


def test_what_is_final_changes_by_nobody() -> None:
    for final in ("placed", "rejected"):
        assert not any(row.before == final and row.after is not None for row in TRANSITIONS)


def test_only_what_is_settled_is_forgotten_and_only_by_the_reaper() -> None:
    forgotten = {row.before for row in TRANSITIONS if row.after is None}
    assert forgotten == SETTLED
    assert all(row.writer == "reaper" for row in TRANSITIONS if row.after is None)


def test_nothing_is_sent_again_that_may_have_been_placed() -> None:
    """Who reaches `in_flight` comes from nothing, from a wait, from an attempt that cost nothing, or from certainty."""
    sources = {row.before for row in TRANSITIONS if row.after == "in_flight"}
    assert sources == {None, "queued", "in_flight", "not_placed"}


def test_every_state_is_reached_and_left() -> None:
    for state in OUTCOMES:
        assert any(row.after == state for row in TRANSITIONS)
        assert any(row.before == state and row.after != state for row in TRANSITIONS)


def test_may_follow_is_the_table() -> None:
    allowed = {(row.before, row.after, row.writer) for row in TRANSITIONS}
    for row in TRANSITIONS:
        for after in (*OUTCOMES, None):
            assert may_follow(row.before, after, row.writer) == ((row.before, after, row.writer) in allowed)  # type: ignore[arg-type]  # every outcome


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201  # this is the command that the message above names
