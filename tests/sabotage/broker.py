"""Defects of secrets: what seals them, who gets which, and what of them is written into logs."""

from typing import Final

from tests.sabotage.defect import Defect

_VAULT: Final = "gateway/broker/vault.py"
_SEALING: Final = "gateway/broker/sealing.py"
_LOGS: Final = "gateway/telemetry/logs.py"
_ROTATION: Final = "tests/secrets/test_rotation.py"
_VAULTS: Final = "tests/broker/test_vault.py"
_LOGGING: Final = "tests/telemetry/test_logs.py"

DEFECTS: Final = (
    Defect(
        name="A sealed value opens in another row.",
        file=_VAULT,
        text='name, place = f"{table}.{column}", (table, row, column)',
        by='name, place = f"{table}.{column}", (table, "k1", column)',
        test=f"{_VAULTS}::test_swapped_rows_columns_and_tables_are_refused",
    ),
    Defect(
        name="A boundary between the names that a seal is bound to can be moved.",
        file=_SEALING,
        text='return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)',
        by='return b"".join(encoded)',
        test=f"{_VAULTS}::test_a_boundary_between_names_cannot_be_moved",
    ),
    Defect(
        name="Each seal has the same nonce and salt.",
        file=_SEALING,
        text="clock.random_bytes(_SALT_BYTES), clock.random_bytes(_NONCE_BYTES)",
        by="bytes(_SALT_BYTES), bytes(_NONCE_BYTES)",
        test=f"{_VAULTS}::test_two_seals_of_the_same_text_have_nothing_in_common_but_the_versions",
    ),
    Defect(
        name="A secret shows itself when it is printed.",
        file="gateway/broker/hidden.py",
        text="""\
    def __str__(self) -> str:
        return "***"
""",
        by="""\
    def __str__(self) -> str:
        return str(getattr(self, "_text", "***"))
""",
        test=f"{_VAULTS}::test_a_secret_shows_itself_nowhere",
    ),
    Defect(
        name="A master key that others can read is taken.",
        file="gateway/broker/secret_file.py",
        text="        if mode & 0o077:\n",
        by="        if False:\n",
        test="tests/broker/test_master_key.py::test_a_key_open_to_others_is_refused",
    ),
    Defect(
        name="An upstream key is bound to its id only, and can be moved to another team.",
        file="gateway/broker/directory.py",
        text='    return f"{team_id}/{key_id}"',
        by="    return key_id",
        test=f"{_ROTATION}::test_two_teams_keys_swapped_are_refused",
    ),
    Defect(
        name="A record under an older version of the master key is opened, though the ledger is beyond it.",
        file="gateway/broker/master_key.py",
        text="        if version < self._oldest:\n",
        by="        if False:\n",
        test=f"{_ROTATION}::test_an_old_record_put_back_is_refused_though_its_version_is_still_in_the_file",
    ),
    Defect(
        name="A record from before a rotation is opened by a process that has not seen the rotation yet.",
        file="gateway/broker/directory.py",
        text='return int.from_bytes(key.sealed_key[1:3], "big") < master_version',
        by="return False",
        test=f"{_ROTATION}::test_an_old_record_put_back_before_a_process_sees_the_rotation_is_refused",
    ),
    Defect(
        name="A new version of the master key stands in its file before it is on the disk.",
        file="gateway/broker/secret_file.py",
        text="        os.fsync(descriptor)\n        beside.replace(path)\n",
        by="        beside.replace(path)\n",
        test="tests/secrets/test_key_file.py::test_it_is_durable_before_it_stands_there",
    ),
    Defect(
        name="What was written over is still in the database's free space.",
        file="gateway/ledger/sqlite_keys.py",
        text='self._connection.pragma("secure_delete", 1)',
        by='self._connection.pragma("secure_delete", 0)',
        test=f"{_ROTATION}::test_no_record_of_an_older_ledger_is_left_after_its_rotation",
    ),
    Defect(
        name="A process whose key file is behind lends none of the keys that it has opened.",
        file="gateway/broker/directory.py",
        text="lent = opened.get((key.team_id, key.key_id)) or KeyUnreadable(key_id=key.key_id)",
        by="lent = KeyUnreadable(key_id=key.key_id)",
        test=f"{_ROTATION}::test_a_running_process_follows_and_one_that_cannot_keeps_what_it_has_opened",
    ),
    Defect(
        name="The old records stay in the write-ahead log after a rotation.",
        file="gateway/ledger/sqlite_keys.py",
        text='"PRAGMA wal_checkpoint(TRUNCATE)"',
        by='"PRAGMA wal_checkpoint(PASSIVE)"',
        test=f"{_ROTATION}::test_no_old_record_is_left_in_any_file_of_the_ledger",
    ),
    Defect(
        name="A gateway that dies badly leaves its memory, keys and all, in a core dump.",
        file="gateway/cli/main.py",
        text="    keep_memory_to_itself()\n",
        by="",
        test="tests/secrets/test_memory.py::test_a_gateway_that_dies_badly_leaves_no_core_dump",
    ),
    Defect(
        name="What a secret is shown as, wherever it is shown, is the secret.",
        file="gateway/broker/hidden.py",
        text="""\
    def __repr__(self) -> str:
        return f"{type(self).__name__}(***)"
""",
        by="""\
    def __repr__(self) -> str:
        return f"{type(self).__name__}({getattr(self, '_text', '***')})"
""",
        test=f"{_VAULTS}::test_a_traceback_with_locals_does_not_show_a_secret",
    ),
    Defect(
        name="A key that was refused or revoked is lent.",
        file="gateway/broker/directory.py",
        text="for key in sorted((key for key in rows.keys if key.is_usable), key=",
        by="for key in sorted(rows.keys, key=",
        test="tests/broker/test_directory.py::test_only_a_usable_key_is_lent_and_an_unreadable_one_never",
    ),
    Defect(
        name="Any field is logged, a key or a body too.",
        file=_LOGS,
        text="allowed = {name: _cut(value) for name, value in event.items() if name in FIELDS}",
        by="allowed = {name: _cut(value) for name, value in event.items()}",
        test=f"{_LOGGING}::test_what_is_not_on_the_list_is_dropped_and_named",
    ),
    Defect(
        name="An exception is logged with its message, which may quote a body.",
        file=_LOGS,
        text="""kind, _, frames = sys.exc_info()""",
        by="""_, kind, frames = sys.exc_info()
        kind = type(str(kind), (), {}) if kind else None""",
        test=f"{_LOGGING}::test_of_an_exception_its_type_and_way_are_written_and_never_its_message",
    ),
    Defect(
        name="A library's line is logged with what it quotes.",
        file=_LOGS,
        text='error=str(record.msg).partition("\\n")[0]',
        by="error=record.getMessage()",
        test=f"{_LOGGING}::test_what_a_library_quotes_is_not_written",
    ),
)
