"""What the generated code promises to those who import it."""

from __future__ import annotations

import ast
import hashlib
import inspect
from pathlib import Path
from typing import Any

import msgspec
import pytest

from generated import models, operations, schemas

from .conftest import PAGE, ROOT, Codegen, Load

ORDER: dict[str, Any] = {
    "items": [{"offerId": "off-1"}],
    "serviceAddress": {"street": "1 Main St", "city": "X", "state": "CA", "zipCode": "94102", "country": "US"},
    "customerInfo": {"fullName": "A B", "email": "a@b.example", "phone": "+1"},
}


def structs() -> list[type[msgspec.Struct]]:
    return [
        c
        for _, c in inspect.getmembers(models, inspect.isclass)
        if issubclass(c, msgspec.Struct) and c.__module__ == models.__name__
    ]


def test_a_whole_order_decodes_and_members_the_spec_does_not_name_are_no_fault() -> None:
    order = msgspec.convert(ORDER | {"priority": 1}, models.CreateOrderDto)
    assert order.items[0].offer_id == "off-1"
    assert order.notes is msgspec.UNSET
    assert order.metadata is msgspec.UNSET


@pytest.mark.parametrize("member", ["items", "serviceAddress", "customerInfo"])
def test_a_required_member_must_be_there(member: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=f"missing required field `{member}`"):
        msgspec.convert({k: v for k, v in ORDER.items() if k != member}, models.CreateOrderDto)


@pytest.mark.parametrize("member", ["items", "serviceAddress", "customerInfo", "notes", "metadata"])
def test_null_is_a_fault_where_the_schema_does_not_allow_it(member: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="got `null`"):
        msgspec.convert(ORDER | {member: None}, models.CreateOrderDto)


def test_values_are_frozen_keyword_only_and_every_struct_makes_a_decoder() -> None:
    assert len(structs()) >= 10
    for struct in structs():
        config = struct.__struct_config__
        assert config.frozen, struct
        assert all(p.kind is p.KEYWORD_ONLY for p in inspect.signature(struct).parameters.values()), struct
        msgspec.json.Decoder(struct)


def test_an_answer_needs_its_order_id_alone() -> None:
    decode = msgspec.json.Decoder(models.OrderPlaced).decode
    assert decode(b'{"orderId": "ord-1"}').order_id == "ord-1"
    assert decode(b'{"orderId": "o", "items": null, "createdAt": null, "new": {}}').items is None
    assert decode(b'{"orderId": "o", "items": [{"status": "never heard of", "new": 1}]}').items is not None
    listing = msgspec.json.Decoder(models.OrderListing).decode
    assert isinstance(listing(b'[{"orderId": "o", "metadata": {"a": 1}}]'), list)
    assert isinstance(listing(b'{"data": [], "total": 0}'), dict)


@pytest.mark.parametrize("message", ["text", ["one", "two"], None])
def test_an_error_may_carry_one_message_or_many(message: object) -> None:
    body = msgspec.convert({"statusCode": 400, "message": message, "error": "Bad Request"}, models.ErrorBody)
    assert body.message == message


def test_the_table_has_every_call_that_the_gateway_makes() -> None:
    table = {o.name: (o.method, o.path) for o in operations.OPERATIONS}
    assert table == {
        "place": ("POST", "/reseller/orders"),
        "list": ("GET", "/reseller/orders"),
        "show": ("GET", "/reseller/orders/{id}"),
        "cancel": ("PATCH", "/reseller/orders/{id}/cancel"),
        "catalog": ("GET", "/reseller/catalog"),
        "catalog-offer": ("GET", "/reseller/catalog/{id}"),
    }
    place = operations.PLACE
    assert place.operation_id == "ResellerOrdersController_create"
    assert place.key_header == "x-api-key"
    assert place.request_model is models.CreateOrderDto
    assert place.request_required
    assert place.servers == (
        ("https://api.offergrid.io", "Production"),
        ("http://localhost:3000", "Local development"),
    )
    assert dict(place.documented_statuses)["404"] == "One or more offers are not available to your team"
    statuses = {status for status, _ in place.documented_statuses}
    assert statuses == {"201", "400", "401", "403", "404", "429"}
    assert operations.SHOW.path_parameters == ("id",)
    assert operations.LIST.query_parameters == ("status",)
    assert operations.CANCEL.request_model is models.CancelOrderDto


def test_the_digest_is_of_the_committed_page() -> None:
    assert hashlib.sha256(PAGE.read_bytes()).hexdigest() == operations.SPEC_DIGEST
    assert (operations.SPEC_TITLE, operations.SPEC_VERSION) == ("OfferGrid API", "1.0")


def test_schemas_are_given_anew_to_everyone_who_asks() -> None:
    mine = schemas.component_schemas()
    mine["CreateOrderDto"].clear()
    assert schemas.component_schemas()["CreateOrderDto"]["required"] == ["items", "serviceAddress", "customerInfo"]
    assert (
        schemas.document()["paths"]["/reseller/orders"]["post"]["operationId"] == "ResellerOrdersController_create"
    )


def test_generated_code_imports_nothing_but_msgspec_and_the_standard_library() -> None:
    allowed = {"__future__", "typing", "msgspec", "json", "importlib", "enum", None}
    for path in (ROOT / "generated").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert {name.name for name in node.names} <= allowed, path
            elif isinstance(node, ast.ImportFrom):
                assert node.module in allowed, path


def test_a_newly_required_member_is_demanded_and_changes_the_digest(
    codegen: Codegen, load: Load, page: str, tmp_path: Path
) -> None:
    source = tmp_path / "page.md"
    changed = page.replace("        - customerInfo\n", "        - customerInfo\n        - notes\n")
    assert changed != page
    source.write_text(changed, encoding="utf-8")
    assert codegen(source, "--out", tmp_path / "out") == (0, "", "")
    package = load(tmp_path / "out")
    assert hashlib.sha256(changed.encode()).hexdigest() == package.operations.SPEC_DIGEST
    assert package.operations.SPEC_DIGEST != operations.SPEC_DIGEST
    with pytest.raises(msgspec.ValidationError, match="missing required field `notes`"):
        msgspec.convert(ORDER, package.models.CreateOrderDto)
    assert msgspec.convert(ORDER | {"notes": "n"}, package.models.CreateOrderDto).notes == "n"


DOCUMENT = """\
openapi: 3.0.3
info: {title: 'A "quoted" \\ title', version: '2'}
paths:
  /things/{thing}:
    parameters: [{name: thing, in: path, required: true, schema: {type: string}}]
    post:
      operationId: Things_make
      summary: 'Make \"\"\" it {{ 7 * 7 }}'
      requestBody: {content: {application/json: {schema: {$ref: '#/components/schemas/Ask'}}}}
      responses:
        '200': {description: ok, content: {application/json: {schema: {$ref: '#/components/schemas/Answer'}}}}
        default: {description: no}
components:
  schemas:
    Ask:
      type: object
      additionalProperties: false
      required: [size, note]
      properties:
        size: {type: integer, minimum: 1, maximum: 9}
        note: {type: string, nullable: true}
        code: {type: string, maxLength: 3}
        country: {type: string, example: NO}
        shared: {$ref: '#/components/schemas/Shared'}
    Answer: {type: object, additionalProperties: false, properties: {at: {type: string, example: 2025-01-02},
      shared: {$ref: '#/components/schemas/Shared'}}}
    Shared: {type: object, additionalProperties: false, properties: {at: {type: string}}}
"""


def test_bounds_null_and_closed_requests_are_kept_and_answers_stay_open(
    codegen: Codegen, load: Load, no_overlays: Path, tmp_path: Path
) -> None:
    source = tmp_path / "spec.yaml"
    source.write_text(DOCUMENT)
    ran = codegen(source, "--overlays", no_overlays, "--out", tmp_path / "out")
    assert ran == (0, "", ""), ran.err
    package = load(tmp_path / "out")
    ask, answer = package.models.Ask, package.models.Answer
    assert msgspec.convert({"size": 1, "note": None}, ask).note is None
    for bad in (
        {"size": 10, "note": ""},
        {"size": 1},
        {"size": 1, "note": "", "code": None},
        {"size": "1", "note": ""},
    ):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(bad, ask)
    with pytest.raises(msgspec.ValidationError, match="unknown field `new`"):
        msgspec.convert({"size": 1, "note": "", "new": 1}, ask)
    assert msgspec.convert({"at": "x", "new": 1}, answer).at == "x"
    assert msgspec.convert({"at": "x", "new": 1}, package.models.Shared).at == "x", "answers use it as well"
    assert ask.__struct_config__.frozen and answer.__struct_config__.frozen
    operation = package.operations.THINGS_MAKE
    assert (operation.name, operation.summary) == ("things_make", 'Make """ it {{ 7 * 7 }}')
    assert (operation.key_header, operation.servers) == ("", (("/", ""),))
    assert operation.documented_statuses == (("200", "ok"), ("default", "no"))
    assert operation.path_parameters == ("thing",)
    assert package.operations.SPEC_TITLE == 'A "quoted" \\ title'
    # YAML 1.1 would have read a truth value and a date.
    shown = package.schemas.component_schemas()
    assert shown["Ask"]["properties"]["country"]["example"] == "NO"
    assert shown["Answer"]["properties"]["at"]["example"] == "2025-01-02"
