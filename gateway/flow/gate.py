"""Stage 2: whether orders of a team may go on their way now, and with which key.

Each refusal is of the instance or the team, never of one order: what the ledger knows already is told all the same.
"""

import msgspec

from gateway.broker.directory import KeyUnreadable, LentKey
from gateway.errors import Draining, Problem, UpstreamCredentials
from gateway.flow.answer import RETRY_CREDENTIALS_S
from gateway.flow.intake import Intake
from gateway.flow.known import RETRY_SOON_S
from gateway.flow.ports import LendsKeys


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why a new order is not taken, and in how many seconds it may be worth another try."""

    problem: Problem
    retry_s: int


class Gate:
    """Belongs to one event loop. Never waits."""

    def __init__(self, *, intake: Intake, keys: LendsKeys) -> None:
        self._intake = intake
        self._keys = keys

    def key_for(self, team_id: int) -> LentKey | Refusal:
        if self._intake.draining:
            draining = Draining("Send the order to another instance, or again in a moment.")
            return Refusal(problem=draining, retry_s=RETRY_SOON_S)
        key = self._keys.key_of(team_id)
        if isinstance(key, LentKey):
            return key
        return Refusal(problem=UpstreamCredentials(_why_no_key(key)), retry_s=RETRY_CREDENTIALS_S)


def _why_no_key(key: KeyUnreadable | None) -> str:
    if key is None:
        return "The team has no active key. An operator has to add one."
    return "The team's key cannot be read. An operator has to mend it."
