"""Who a command's change is written down as."""

import os
import pwd

import pytest

from gateway.wiring.actor import actor


def test_it_is_the_systems_user_and_a_number_where_it_has_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "liar")
    assert actor() == pwd.getpwuid(os.getuid()).pw_name
    nobody = next(uid for uid in range(54_321, 60_000) if uid not in {entry.pw_uid for entry in pwd.getpwall()})
    monkeypatch.setattr(os, "getuid", lambda: nobody)
    assert actor() == f"uid {nobody}"
