"""A small catalogue of made-up offers, and its filters."""

from typing import Any
from urllib.parse import parse_qsl

import msgspec


class Offer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`price` is in US dollars a month. `zip_codes` empty: available everywhere."""

    id: str
    name: str
    category: str
    provider: str
    price: float
    zip_codes: tuple[str, ...] = ()


OFFERS: tuple[Offer, ...] = (
    Offer(id="off-fiber-500", name="Fiber 500", category="internet", provider="Northline", price=59.99),
    Offer(id="off-fiber-1000", name="Fiber 1000", category="internet", provider="Northline", price=79.99),
    Offer(
        id="off-cable-200",
        name="Cable 200",
        category="internet",
        provider="Baywire",
        price=39.99,
        zip_codes=("94102", "94103"),
    ),
    Offer(id="off-tv-basic", name="TV Basic", category="tv", provider="Baywire", price=24.99),
    Offer(id="off-alarm-home", name="Home Alarm", category="security", provider="Lockwell", price=29.0),
    Offer(id="off-power-green", name="Green Power", category="energy", provider="Sunfield", price=88.0),
    Offer(id="off-home-cover", name="Home Cover", category="insurance", provider="Harbor Mutual", price=17.5),
    Offer(id="test-offer-id", name="Test offer", category="internet", provider="Sandbox", price=0.0),
)


def _fits(offer: Offer, filters: dict[str, str]) -> bool:
    category, zip_code, search = filters.get("category"), filters.get("zipCode"), filters.get("search", "")
    return (
        category in {None, offer.category}
        and (zip_code is None or not offer.zip_codes or zip_code in offer.zip_codes)
        and search.lower() in f"{offer.name} {offer.provider}".lower()
        and offer.price >= float(filters.get("minPrice", "-inf"))
        and offer.price <= float(filters.get("maxPrice", "inf"))
    )


def find_offers(query: str) -> list[Any]:
    """The offers that pass every filter of the query string. Raises ValueError for a price that is no number."""
    filters = dict(parse_qsl(query))
    return [msgspec.to_builtins(offer) for offer in OFFERS if _fits(offer, filters)]


def show_offer(offer_id: str) -> Any | None:
    return next((msgspec.to_builtins(offer) for offer in OFFERS if offer.id == offer_id), None)
