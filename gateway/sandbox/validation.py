"""Reading and checking an order's body the way a NestJS service on Node does."""

import json
import math
import re
from typing import Any

from gateway.sandbox.answers import Response, json_response, nest_error

_ADDRESS = ("street", "city", "state", "zipCode", "country")
_CUSTOMER = ("fullName", "email", "phone")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
# Up to 15 digits every integer is exact as a double; longer ones are rounded, as JavaScript rounds them.
_EXACT_DIGITS = 15


def _refuse_constant(name: str) -> float:
    raise ValueError(f"Unexpected token {name[0]} in JSON")


def _number(text: str) -> float | int | None:
    if len(text) <= _EXACT_DIGITS and text.lstrip("-").isdigit():
        return int(text)
    value = float(text)
    return value if math.isfinite(value) else None  # JSON.stringify writes Infinity as null


def read_json(body: bytes) -> Any:
    """The parsed value; of duplicate members the last is kept. Bad UTF-8 is replaced, a byte order mark skipped.

    Raises ValueError for what is not JSON, or is nested too deeply to read.
    """
    text = body.decode("utf-8-sig", "replace")
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_int=_number, parse_float=_number)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None


def _strings(faults: list[str], holder: Any, path: str, names: tuple[str, ...]) -> None:
    if holder is None:
        faults.append(f"{path} should not be null or undefined")
    elif not isinstance(holder, dict):
        faults.append(f"nested property {path} must be either object or array")
    else:
        faults.extend(f"{path}.{name} must be a string" for name in names if not isinstance(holder.get(name), str))


def _faults(data: dict[str, Any]) -> list[str]:
    faults: list[str] = []
    items = data.get("items")
    if not isinstance(items, list):
        faults.append("items must be an array")
    else:
        for index, item in enumerate(items):
            _strings(faults, item, f"items.{index}", ("offerId",))
    _strings(faults, data.get("serviceAddress"), "serviceAddress", _ADDRESS)
    _strings(faults, data.get("customerInfo"), "customerInfo", _CUSTOMER)
    if data.get("notes") is not None and not isinstance(data["notes"], str):
        faults.append("notes must be a string")
    if data.get("metadata") is not None and not isinstance(data["metadata"], dict):
        faults.append("metadata must be an object")
    return faults


def check_order(data: Any) -> Response | None:
    """None where `data` is an order, else the 400 or 404 that says why not. Unknown members are let be."""
    faults = _faults(data if isinstance(data, dict) else {})
    if faults:
        return nest_error(400, faults)
    if not _EMAIL.fullmatch(data["customerInfo"]["email"]):
        return json_response(400, {"error": "Invalid email format", "field": "customerInfo.email"})
    if any(item["offerId"].startswith("unavailable-") for item in data["items"]):
        return nest_error(404, "One or more offers are not available to your team")
    return None
