"""Defects of secrets: what seals them, who gets which, and what of them is written into logs."""

from typing import Final

from tests.sabotage.defect import Defect

_VAULT: Final = "gateway/broker/vault.py"
_SEALING: Final = "gateway/broker/sealing.py"
_LOGS: Final = "gateway/telemetry/logs.py"
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
