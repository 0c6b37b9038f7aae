"""The judges, and a gateway for them to judge."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.judges.document import published


class Stack(Protocol):
    """A running gateway with one tenant."""

    @property
    def tenant_url(self) -> str: ...

    @property
    def token(self) -> str: ...


StartStack = Callable[..., AbstractContextManager[Stack]]


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """OfferGrid's document as published."""
    return published(tmp_path)


@pytest.fixture
def order() -> dict[str, Any]:
    """An order that the document allows, with nothing in it that may be absent."""
    return {
        "items": [{"offerId": "123e4567-e89b-12d3-a456-426614174000"}],
        "serviceAddress": {
            "street": "123 Main St",
            "city": "San Francisco",
            "state": "CA",
            "zipCode": "94102",
            "country": "US",
        },
        "customerInfo": {"fullName": "John Doe", "email": "john@example.com", "phone": "+1-555-123-4567"},
    }


@pytest.fixture
def running_stack() -> StartStack:
    """`with running_stack(upstream_base_url=…) as stack:` starts a gateway that sends there."""
    started: StartStack = import_module("tests.support.stack").running_stack
    return started
