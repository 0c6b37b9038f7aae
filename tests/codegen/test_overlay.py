"""Overlays: every action does something, and says where its fact comes from."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from .conftest import ROOT, Codegen

HEAD = "overlay: 1.0.0\ninfo: {title: t, version: '1'}\nactions:\n"


def test_every_action_names_its_source() -> None:
    for path in (ROOT / "codegen" / "overlays").glob("*.yaml"):
        for action in yaml.safe_load(path.read_text(encoding="utf-8"))["actions"]:
            assert action.get("description"), f"{path.name}: {action['target']}"
            assert action.get("x-source"), f"{path.name}: {action['target']}"


@pytest.mark.parametrize(
    ("actions", "line", "what"),
    [
        (
            "- {target: $.info, update: {contact: {name: x}}}\n- target: $.paths['/gone']\n  update: {x-a: 1}\n",
            5,
            "action 2: target $.paths['/gone'] matches nothing in the document",
        ),
        (
            "- {target: $.components.schemas.Gone, remove: true}\n",
            4,
            "action 1: target $.components.schemas.Gone matches",
        ),
        ("- {target: '$.paths[', update: {}}\n", 4, "action 1: target $.paths[ is not a JSONPath"),
        ("- {target: $.info.title, update: Other}\n", 4, "action 1: target $.info.title is no object or array"),
        ("- {update: {}}\n", 4, "not an overlay: 'target' is a required property"),
        ("- {target: $.info, remove: true}\n", 1, "invalid OpenAPI at its root: 'info' is a required property"),
    ],
)
def test_a_faulty_overlay_is_one_line_that_names_it(
    actions: str, line: int, what: str, codegen: Codegen, no_overlays: Path, tmp_path: Path
) -> None:
    overlay = no_overlays / "mine.yaml"
    overlay.write_text(HEAD + actions)
    ran = codegen("--overlays", no_overlays, "--out", tmp_path / "out")
    assert ran.code == 2
    assert ran.err.startswith(f"{overlay}:{line}: "), ran.err
    assert what in ran.err
    assert ran.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_of_overlays_that_is_not_there_is_an_error(codegen: Codegen, tmp_path: Path) -> None:
    ran = codegen("--overlays", tmp_path / "gone", "--out", tmp_path / "out")
    assert (ran.code, ran.err) == (2, f"{tmp_path}/gone:1: no such folder of overlays\n")
