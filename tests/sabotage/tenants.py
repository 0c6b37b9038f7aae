"""Defects on the tenants' side: how a request is read, who it is from, and what goes on to OfferGrid."""

from typing import Final

from tests.sabotage.defect import Defect

_JSON: Final = "gateway/core/json_text.py"
_ENRICH: Final = "gateway/core/enrich.py"
_FRAMING: Final = "gateway/web/framing.py"
_READING: Final = "tests/core/test_json_text.py"

DEFECTS: Final = (
    Defect(
        name="A body with two members of one name is read.",
        file=_JSON,
        text="    if len(set(names)) != len(names):\n",
        by="    if False:\n",
        test=f"{_READING}::test_a_body_with_two_readings_or_none_is_refused",
    ),
    Defect(
        name="A body with two members of one name further in is read.",
        file=_JSON,
        text="    if len(found) != len(pairs):\n",
        by="    if False:\n",
        test=f"{_READING}::test_a_body_with_two_readings_or_none_is_refused",
    ),
    Defect(
        name="Bodies whose numbers differ beyond what a float holds are the same order.",
        file=_JSON,
        text="parse_int=Number, parse_float=Number, parse_constant",
        by="parse_int=Number, parse_float=float, parse_constant",
        test=f"{_READING}::test_numbers_in_bodies_are_compared_exactly",
    ),
    Defect(
        name="A number in the body is rounded on its way to OfferGrid.",
        file=_ENRICH,
        text="    return text.encode()\n",
        by="    return json.dumps(json.loads(text)).encode()\n",
        test="tests/core/test_enrich.py::test_numbers_keep_their_spelling",
    ),
    Defect(
        name="A tenant may name its own metadata `gateway…` in capitals.",
        file=_ENRICH,
        text="return name[: len(RESERVED_PREFIX)].casefold() == RESERVED_PREFIX",
        by="return name.startswith(RESERVED_PREFIX)",
        test="tests/core/test_enrich.py::test_reserved_names_are_found_in_any_case_and_escape",
    ),
    Defect(
        name="A tenant may bring metadata of the gateway's own.",
        file="gateway/web/orders.py",
        text="    if reserved:\n",
        by="    if False:\n",
        test="tests/accept/test_error_table_requests.py::test_422_reserved_metadata",
    ),
    Defect(
        name="What an operator enforces is only added where it is absent.",
        file=_ENRICH,
        text="value = enforced.get(member.name, body.text[member.start : member.end])",
        by="value = body.text[member.start : member.end]",
        test="tests/core/test_enrich.py::test_defaults_fill_and_enforced_replace_in_place",
    ),
    Defect(
        name="A request with a length and a transfer coding is read.",
        file=_FRAMING,
        text="    if codings and lengths:\n",
        by="    if False:\n",
        test="tests/web/test_framing.py::test_two_readings_are_refused_and_end_the_connection",
    ),
    Defect(
        name="A request with two lengths is read.",
        file=_FRAMING,
        text="    if len(lengths) > 1 or (lengths and",
        by="    if (lengths and",
        test="tests/web/test_framing.py::test_two_readings_are_refused_and_end_the_connection",
    ),
    Defect(
        name="A token's id is enough: its secret may be any.",
        file="gateway/broker/directory.py",
        text="        if not same:\n",
        by="        if False:\n",
        test="tests/broker/test_directory.py::test_each_token_has_its_verdict",
    ),
    Defect(
        name="A revoked token is accepted.",
        file="gateway/broker/directory.py",
        text="        if record.revoked_ms is not None:\n",
        by="        if False:\n",
        test="tests/broker/test_directory.py::test_each_token_has_its_verdict",
    ),
    Defect(
        name="A suspended tenant places orders.",
        file="gateway/web/orders.py",
        text="        require_active(tenant)\n",
        by="",
        test="tests/accept/test_error_table_requests.py::test_403_tenant_suspended",
    ),
    Defect(
        name="Bytes behind a request that cannot be read are answered in place of an order.",
        file="gateway/web/connection.py",
        text="        if self._answers_pending():\n            return\n",
        by="",
        test="tests/accept/test_attacks.py::test_unreadable_bytes_behind_an_order_are_not_answered_in_its_place",
    ),
    Defect(
        name="Of two idempotency keys the first one counts.",
        file="gateway/web/request.py",
        text="    if len(found) > 1:\n",
        by="    if False:\n",
        test="tests/accept/test_error_table_requests.py::test_400_bad_request_second_idempotency_key",
    ),
    Defect(
        name="Any token opens the admin listener.",
        file="gateway/web/admin_guard.py",
        text="if shown is None or Secret(shown) != self._token:",
        by="if shown is None:",
        test="tests/accept/test_interface.py::test_admin_listener_asks_for_its_token",
    ),
    Defect(
        name="A page of another site reaches the admin listener.",
        file="gateway/web/admin_guard.py",
        text="    if not _is_own(asked, bound):\n",
        by="    if False:\n",
        test="tests/accept/test_interface.py::test_403_forbidden_foreign_host_or_origin",
    ),
    Defect(
        name="One operation of the admin listener asks for no token.",
        file="gateway/web/admin_guard.py",
        text='        if scope["path"] in self._open:\n',
        by='        if scope["path"] in self._open or scope["path"] == "/admin/tokens":\n',
        test="tests/accept/test_admin_guards.py::test_without_the_admin_token_nothing_is_done_and_nothing_is_told",
    ),
    Defect(
        name="A change on the admin listener may come as a form does.",
        file="gateway/web/admin_operation.py",
        text="        require_json(scope)\n",
        by="",
        test="tests/accept/test_admin_guards.py::test_a_change_that_is_not_json_is_refused",
    ),
    Defect(
        name="The admin listener waits for the ledger on the event loop.",
        file="gateway/wiring/desk.py",
        text="        return await asyncio.get_running_loop().run_in_executor(self._threads, work)\n",
        by="        return work()\n",
        test="tests/accept/test_admin_operations.py::test_the_listener_goes_on_while_a_change_waits_for_the_ledger",
    ),
    Defect(
        name="A ledger that cannot be read is a defect to who looks at orders.",
        file="gateway/flow/known.py",
        text="    except LedgerError as fault:\n",
        by="    except KeyError as fault:\n",
        test="tests/accept/test_error_table_shortage.py::test_503_ledger_unavailable_to_who_looks",
    ),
)
