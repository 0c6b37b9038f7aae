"""Defects on the wire to OfferGrid: what goes out, and what is taken for an answer."""

from typing import Final

from tests.sabotage.defect import Defect

_TRANSPORT: Final = "gateway/upstream/transport.py"
_CONNECTION: Final = "gateway/upstream/connection.py"
_RESPONSE: Final = "gateway/upstream/response.py"
_OPERATIONS: Final = "gateway/upstream/operations.py"

DEFECTS: Final = (
    Defect(
        name="Everything that goes wrong after the first byte counts as not sent.",
        file="gateway/upstream/failure.py",
        text="return AttemptFailed(Sent(reason=reason, detail=detail))",
        by='return AttemptFailed(NotSent(reason="no_connection", detail=detail))',
        test="tests/upstream/test_sent.py::test_what_is_not_a_whole_answer_leaves_the_order_sent",
    ),
    Defect(
        name="An error that nobody expected counts as not sent.",
        file=_OPERATIONS,
        text='return Sent(reason="broken", detail=type(error).__name__)',
        by='return NotSent(reason="defect", detail=type(error).__name__)',
        test="tests/upstream/test_operations.py::test_foreign_transports_error_is_sent_whatever_it_says",
    ),
    Defect(
        name="The transport sends although it was told not to.",
        file=_TRANSPORT,
        text='return None if allowed else not_sent("too_late", "no longer allowed to send")',
        by="return None",
        test="tests/upstream/test_not_sent.py::test_may_send_is_the_last_word_and_false_sends_no_byte",
    ),
    Defect(
        name="The transport sends where nobody can say whether it may.",
        file=_TRANSPORT,
        text='return not_sent("too_late", f"may_send failed: {type(error).__name__}")',
        by="return None",
        test="tests/upstream/test_not_sent.py::test_may_send_that_fails_sends_no_byte",
    ),
    Defect(
        name="The transport sends after the deadline.",
        file=_TRANSPORT,
        text='return not_sent("too_late", "the deadline had passed before the first byte")',
        by="pass",
        test="tests/upstream/test_not_sent.py::test_clock_that_runs_ahead_ends_the_attempt_before_it_began",
    ),
    Defect(
        name="An order goes out a second time where its connection breaks.",
        file=_TRANSPORT,
        text="        raw = await connection.finish(terms.deadline - self._clock.monotonic())\n",
        by="""\
        try:
            raw = await connection.finish(terms.deadline - self._clock.monotonic())
        except AttemptFailed:
            connection = await self._dial(terms.deadline)
            self._write(connection, request, body, terms)
            raw = await connection.finish(terms.deadline - self._clock.monotonic())
""",
        test="tests/upstream/test_once.py::test_no_order_is_on_the_wire_twice_whatever_the_server_does",
    ),
    Defect(
        name="A redirect is followed.",
        file=_OPERATIONS,
        text="            response = await self._transport.handle_async_request(request)\n",
        by="""\
            response = await self._transport.handle_async_request(request)
            if 300 <= response.status_code < 400:
                request = httpx.Request(
                    request.method, request.url.join(response.headers["location"]), headers=request.headers,
                    content=await request.aread(), extensions=request.extensions,
                )
                response = await self._transport.handle_async_request(request)
""",
        test="tests/upstream/test_once.py::test_redirect_to_the_same_origin_is_not_followed_either",
    ),
    Defect(
        name="The key goes to another origin than `base_url`'s.",
        file=_TRANSPORT,
        text='            raise not_sent("defect", "the request is for another origin")\n',
        by="            self._host, self._port = url.host, url.port or _PORTS[url.scheme]\n",
        test="tests/upstream/test_once.py::test_key_goes_to_the_base_urls_origin_alone",
    ),
    Defect(
        name="A listing's next page is asked for wherever it says.",
        file=_OPERATIONS,
        text="return url.copy_with(fragment=None) if same else None",
        by="return url.copy_with(fragment=None) if same or True else None",
        test="tests/upstream/test_listing.py::test_no_other_address_is_asked_for_a_further_page",
    ),
    Defect(
        name="Bytes left over behind an answer are read as the next one.",
        file=_RESPONSE,
        text="reusable=self._persistent and not self._leftover and not self._until_eof",
        by="reusable=self._persistent and not self._until_eof",
        test="tests/upstream/test_connections.py::test_bytes_left_over_are_never_the_next_orders_answer",
    ),
    Defect(
        name="Bytes that came before the order was sent are read as its answer.",
        file=_CONNECTION,
        text="        return not self._poll.poll(0)\n",
        by="        return True\n",
        test="tests/upstream/test_connections.py::test_what_the_event_loop_has_not_seen_yet_is_seen_before_the_write",
    ),
    Defect(
        name="A connection that was idle too long carries an order.",
        file=_TRANSPORT,
        text="if connection.idle_since >= oldest and connection.usable():",
        by="if connection.usable():",
        test="tests/upstream/test_connections.py::test_connection_that_was_idle_too_long_is_not_used",
    ),
    Defect(
        name="An answer that breaks off counts as whole.",
        file=_RESPONSE,
        text="        if not (self._checked and self._until_eof):\n",
        by="        if not self._checked:\n",
        test="tests/upstream/test_response.py::test_a_response_cut_short_is_never_whole",
    ),
    Defect(
        name="An answer may be several times as large as allowed.",
        file=_RESPONSE,
        text="        if self._body_bytes > self._max_body_bytes:\n",
        by="        if False:\n",
        test="tests/upstream/test_sent.py::test_endless_body_is_cut_off_at_the_limit",
    ),
    Defect(
        name="An answer with two lengths is read.",
        file=_RESPONSE,
        text='        if codings and (lengths or codings != [b"chunked"] or not is_http_11):\n',
        by="        if False:\n",
        test="tests/upstream/test_response.py::test_what_is_not_one_whole_readable_response_is_broken",
    ),
    Defect(
        name="A packed answer is read as if it were text.",
        file=_OPERATIONS,
        text='        if headers.get(b"content-encoding", "").strip().lower() not in ("", "identity"):\n',
        by="        if False:\n",
        test="tests/upstream/test_operations.py::test_foreign_encoded_body_is_not_decoded",
    ),
    Defect(
        name="After the deadline the kernel goes on sending an order.",
        file=_CONNECTION,
        text="            self.reset()\n            raise\n",
        by="            raise\n",
        test="tests/upstream/test_sent.py::test_request_that_is_not_read_is_a_timeout_and_the_rest_of_it_is_dropped",
    ),
    Defect(
        name="The key in an answer's body is shown.",
        file=_TRANSPORT,
        text="stream=httpx.ByteStream(await mask_in_turns(raw.body, secret)),",
        by="stream=httpx.ByteStream(raw.body),",
        test="tests/upstream/test_operations.py::test_key_in_an_answer_is_masked",
    ),
    Defect(
        name="The key in an answer's body is shown where it is spelled with escapes.",
        file="gateway/upstream/masking.py",
        text='    if b"\\\\" not in text:\n',
        by="    if True:\n",
        test="tests/upstream/test_operations.py::test_no_spelling_of_the_key_survives",
    ),
)
