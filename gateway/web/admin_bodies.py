"""What changes are asked with: the bodies of the admin listener's operations, and their one reading.

Members have the names that the command line's `--json` and the file of tenants use. A body is read as strictly as an
order is: one reading, every fault at once with its pointer, no member that nobody asked for.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, TypeVar

import msgspec
import msgspec.inspect
from msgspec import UNSET, Meta, Raw, UnsetType

from gateway.core.directory import TenantState
from gateway.core.faults import MAX_FAULTS, Fault, escape, faults_of
from gateway.core.json_text import read_object
from gateway.core.tenancy import MOST, metadata_fault, metadata_size_fault
from gateway.errors import BadRequest

MAX_TEXT: Final = 500
"""Characters of a reason, or of OfferGrid's id of an order: as on the command line."""

_WRONG: Final = "The body is not what this operation takes."

Name = Annotated[str, Meta(pattern="^[a-z][a-z0-9-]{0,62}$")]
PerMinute = Annotated[int, Meta(ge=0, le=MOST["per_minute"])]
PerHour = Annotated[int, Meta(ge=0, le=MOST["per_hour"])]
Window = Annotated[int, Meta(ge=0, le=MOST["implicit_window_s"])]
Line = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT, description="Printable, on one line.")]


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A member that is not known is refused: it is a slip of the pen, and may be a secret at the wrong place."""


class Nothing(Body, frozen=True, kw_only=True):
    """An empty object, or no body at all."""


class NewTeam(Body, frozen=True, kw_only=True):
    team: Name


class NewKey(Body, frozen=True, kw_only=True):
    """`key` is OfferGrid's, and is never shown again. A limit that is null is that of the settings; 0 is none."""

    key: Annotated[str, Meta(min_length=8, max_length=512, pattern="^[!-~]+$")]
    per_minute: PerMinute | None = msgspec.field(default=None, name="perMinute")
    per_hour: PerHour | None = msgspec.field(default=None, name="perHour")

    def __repr__(self) -> str:
        return "NewKey(***)"


class Activation(Body, frozen=True, kw_only=True):
    """`newAccount`: the key may be of another OfferGrid account, to which the team turns with it."""

    new_account: bool = msgspec.field(default=False, name="newAccount")


class Metadata(Body, frozen=True, kw_only=True):
    """Members that a tenant's orders get: `defaults` where an order has none, `enforced` in place of its own."""

    defaults: dict[str, Raw] = {}
    enforced: dict[str, Raw] = {}


class NewTenant(Body, frozen=True, kw_only=True):
    """What is null or not there is as the settings say."""

    tenant: Name
    team: Name
    state: TenantState = "active"
    require_idempotency_key: bool = False
    guaranteed_per_minute: PerMinute | None = None
    implicit_window_s: Window | None = None
    metadata: Metadata = Metadata()


class NewToken(Body, frozen=True, kw_only=True):
    """`expiresIn`: `90d`, `12h`, `30m` or `45s`; without it, it does not expire."""

    tenant: Name
    expires_in: Annotated[str, Meta(pattern="^[0-9]{1,9}[smhd]$")] | None = msgspec.field(
        default=None, name="expiresIn"
    )


class ByHand(Body, frozen=True, kw_only=True):
    """Either `placed`, OfferGrid's id of the order, or `notPlaced`. `reason` stands in the audit log."""

    reason: Line
    placed: Line | None = None
    not_placed: bool = msgspec.field(default=False, name="notPlaced")


class WantedTeam(Body, frozen=True, kw_only=True):
    name: Name


class WantedMetadata(Body, frozen=True, kw_only=True):
    defaults: dict[str, Raw] | UnsetType = UNSET
    enforced: dict[str, Raw] | UnsetType = UNSET


class WantedTenant(Body, frozen=True, kw_only=True):
    """What is not there stays as it is."""

    name: Name
    team: Name
    state: TenantState | UnsetType = UNSET
    require_idempotency_key: bool | UnsetType = UNSET
    guaranteed_per_minute: PerMinute | UnsetType | None = UNSET
    implicit_window_s: Window | UnsetType | None = UNSET
    metadata: WantedMetadata = WantedMetadata()


class TenantsDocument(Body, frozen=True, kw_only=True):
    """The file of tenants as JSON. `prune` removes only of what there is a list of."""

    teams: list[WantedTeam] | UnsetType = UNSET
    tenants: list[WantedTenant] | UnsetType = UNSET


BodyType = TypeVar("BodyType", bound=Body)


def read(raw: bytes, kind: type[BodyType]) -> BodyType:
    """The body as this kind; BadRequest names every fault. No body stands for an empty object."""
    raw = raw or b"{}"
    values = read_object(raw).values()
    refuse(_WRONG, *itertools.islice(faults_of(values, msgspec.inspect.type_info(kind)), MAX_FAULTS))
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as fault:  # it quotes no value
        raise BadRequest(_WRONG, errors=(("", str(fault)),)) from fault


def refuse(detail: str, *faults: Fault) -> None:
    """BadRequest where there are faults."""
    if faults:
        raise BadRequest(detail, errors=tuple((fault.pointer, fault.detail) for fault in faults))


def texts(members: Mapping[str, Raw]) -> dict[str, str]:
    """Metadata members as they were spelled."""
    return {name: bytes(value).decode() for name, value in members.items()}


def metadata_faults(pointer: str, members: Mapping[str, str]) -> Iterator[Fault]:
    for name, text in members.items():
        if what := metadata_fault(name, text):
            yield Fault(f"{pointer}/{escape(name)}", what)
    if what := metadata_size_fault(members):
        yield Fault(pointer, what)


def schemas() -> dict[str, Any]:
    """Each body's schema, by its name."""
    kinds = (NewTeam, NewKey, Activation, Metadata, NewTenant, NewToken, ByHand, TenantsDocument, Nothing)
    _, found = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    return found
