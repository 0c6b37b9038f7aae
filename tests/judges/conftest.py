"""What the judges judge by."""

from pathlib import Path
from typing import Any

import pytest

from tests.judges.document import published


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
