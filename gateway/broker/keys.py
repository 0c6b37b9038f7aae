"""Administering upstream keys: standby → active → retiring → revoked, and `refused` where OfferGrid said 401."""

import re
from collections.abc import Sequence
from typing import Final

from gateway.broker.directory import KEY_COLUMN, KEYS_TABLE, row_of_key
from gateway.broker.office import Office, named, orders
from gateway.broker.vault import Secret
from gateway.core.account import Verdict, accepted
from gateway.core.directory import UpstreamKey
from gateway.core.tenancy import key_facts, require_numbers
from gateway.errors import BadUsage, NoSuch, Refused

_KEY: Final = re.compile(r"[\x21-\x7e]{8,512}", re.ASCII)
"""What can stand in a header and cannot be a slip of the hand. OfferGrid documents no form."""


class Keys(Office):
    def add_key(
        self, team: str, key: Secret, *, per_minute: int | None = None, per_hour: int | None = None
    ) -> UpstreamKey:
        """A team's first key becomes active, later ones stand by."""
        if not key.matches(_KEY):
            raise BadUsage("an upstream key is 8 to 512 visible ASCII characters, on one line")
        require_numbers(per_minute=per_minute, per_hour=per_hour)
        with self._store.change():
            rows = self._store.rows()
            owner = named(rows.teams, "team", team)
            mine = [known for known in rows.keys if known.team_id == owner.team_id]
            key_id = f"key-{self._clock.random_bytes(6).hex()}"
            record = UpstreamKey(
                key_id=key_id,
                team_id=owner.team_id,
                state="standby" if mine else "active",
                sealed_key=self._vault.seal_secret(
                    key,
                    table=KEYS_TABLE,
                    row=row_of_key(owner.team_id, key_id),
                    column=KEY_COLUMN,
                    version=rows.master_version,
                ),
                per_minute=per_minute,
                per_hour=per_hour,
                created_ms=self._clock.wall_ms(),
            )
            self._store.insert_key(record)
            self._note("key add", key_id, after=key_facts(record), team=team)
        return record

    def keys(self, team: str) -> Sequence[UpstreamKey]:
        rows = self._store.rows()
        owner = named(rows.teams, "team", team)
        return [key for key in rows.keys if key.team_id == owner.team_id]

    def key(self, team: str, key_id: str) -> UpstreamKey:
        for key in self.keys(team):
            if key.key_id == key_id:
                return key
        raise NoSuch(f"team {team} has no key {key_id}")

    def placed_of_team(self, team: str) -> frozenset[str]:
        """Upstream ids of the orders that are known as placed in the team's account: what a key's listing is held
        against.
        """
        return self._store.placed_of_team(named(self._store.rows().teams, "team", team).team_id)

    def key_was_tried(self, team: str, key_id: str, verdict: Verdict) -> UpstreamKey:
        """What a read with the key has shown. Where it is accepted, a refused one stands by again. Where it is not, or
        shows another account, no order is sent with it; but an active key of what looks like another account stays
        active: that a listing lacks something stops no orders. A revoked one stays as it is.
        """
        with self._store.change():
            before = self.key(team, key_id)
            if accepted(verdict):
                self._store.verify_key(key_id, self._clock.wall_ms())
            elif verdict == "refused":
                self._store.refuse_key(key_id)
            else:
                self._store.disown_key(key_id)
            after = self.key(team, key_id)
            if after != before:
                action = "key refused" if verdict == "refused" else "key verify"
                self._note(action, key_id, before=key_facts(before), after=key_facts(after), team=team)
        return after

    def activate_key(self, team: str, key_id: str, verdict: Verdict, *, new_account: bool = False) -> UpstreamKey:
        """Orders are sent with it from now on; the one before becomes `retiring`. `verdict`: of a read just now.

        `new_account`: it may be of another OfferGrid account, to which the team turns with it. No key of the account
        before is used any more, so Refused while an order may still be found there.
        """
        if not accepted(verdict) and not (new_account and verdict == "another_account"):
            raise Refused(_unfit(key_id, self.key_was_tried(team, key_id, verdict), verdict))
        with self._store.change():
            before = self.key(team, key_id)
            turns = new_account and verdict != "same_account"
            if before.state == "revoked":
                raise Refused(f"{key_id} is revoked: add it again to use it")
            if before.state == "active" and not turns:
                return before
            if turns and (unsettled := self._store.unsettled(team_id=before.team_id)):
                raise Refused(
                    f"team {team} has {orders(unsettled)} that nobody is sure of, and a new account cannot show them: "
                    "ordergate orders reconcile first"
                )
            replaced = [key.key_id for key in self.keys(team) if key.state == "active" and key.key_id != key_id]
            self._store.activate_key(before.team_id, key_id, self._clock.wall_ms(), new_account=turns)
            after = self.key(team, key_id)
            facts = key_facts(before), key_facts(after)
            more = {"team": team, "retiring": replaced, "newAccount": turns}
            self._note("key activate", key_id, before=facts[0], after=facts[1], **more)
        return after

    def revoke_key(self, team: str, key_id: str) -> UpstreamKey:
        """No order is sent with it any more, and no listing is read. Again changes nothing, and is no fault."""
        with self._store.change():
            before = self.key(team, key_id)
            if before.state != "revoked":
                self._store.revoke_key(key_id)
                after = self.key(team, key_id)
                self._note("key revoke", key_id, before=key_facts(before), after=key_facts(after), team=team)
            return self.key(team, key_id)

    def next_key(self, team: str) -> UpstreamKey | None:
        """What orders are sent with where nothing is done: the active key, else another usable one."""
        first = {"active": 0, "retiring": 1}
        usable = [key for key in self.keys(team) if key.is_usable]
        return min(usable, key=lambda key: first.get(key.state, 2), default=None)


def _unfit(key_id: str, tried: UpstreamKey, verdict: Verdict) -> str:
    if verdict == "refused":
        return f"OfferGrid does not accept {key_id}; it is {tried.state}"
    return (
        f"the listing of {key_id} shows none of the orders that were placed for the team: it looks like another "
        "account's key. Where the team is to have that account from now on: --new-account"
    )
