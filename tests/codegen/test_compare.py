"""`--compare`: what changed, in words, what breaks first."""

from __future__ import annotations

from pathlib import Path

from .conftest import PAGE, Codegen


def test_nothing_changed_is_nothing_said(codegen: Codegen) -> None:
    assert codegen("--compare", PAGE, PAGE) == (0, "", "")


def test_what_breaks_comes_first_and_gives_exit_1(codegen: Codegen, page: str, tmp_path: Path) -> None:
    new = tmp_path / "new.md"
    new.write_text(
        page.replace("        - customerInfo\n", "        - customerInfo\n        - notes\n")
        .replace("        '404':", "        '409':")
        .replace("        zipCode:\n          type: string", "        zipCode:\n          type: integer")
        .replace("        phone:\n", "        age:\n          type: integer\n        phone:\n")
    )
    ran = codegen("--compare", PAGE, new)
    assert (ran.code, ran.err) == (1, "")
    assert ran.out.splitlines() == [
        "breaking: CreateOrderDto/notes is now required",
        "breaking: POST /reseller/orders no longer documents status 404",
        "breaking: ServiceAddressDto/zipCode is now integer, was string",
        "other: CustomerInfoDto/age was added",
        "other: POST /reseller/orders now documents status 409",
    ]


def test_a_removed_operation_breaks_and_an_added_one_does_not(codegen: Codegen, page: str, tmp_path: Path) -> None:
    new = tmp_path / "new.md"
    new.write_text(page.replace("    post:\n", "    put:\n"))
    ran = codegen("--compare", PAGE, new)
    assert ran.code == 1
    assert ran.out.splitlines() == [
        "breaking: POST /reseller/orders was removed",
        "other: PUT /reseller/orders was added",
    ]


def test_a_fault_in_either_is_one_line(codegen: Codegen, tmp_path: Path) -> None:
    ran = codegen("--compare", PAGE, tmp_path / "gone.md")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"{tmp_path}/gone.md:1: ")
