"""Ordergate: the gateway between a company's microservices (tenants) and OfferGrid.

Start reading at `flow/place_order.py`: the life of one order, top to bottom. The rooms, each allowed to import
only what stands to its right:

    cli → wiring → web → flow → {broker, ledger, upstream, telemetry} → core → settings → {errors, clock}

`core` decides and does no I/O; `ledger` makes things durable; `upstream` talks to OfferGrid; `broker` holds teams,
keys, tenants and tokens; `web` speaks HTTP; `wiring` is the only place that names concrete classes. `sandbox` is a
stand-in OfferGrid that shares no code with the rest, so that the two can prove each other wrong.

What it does not do: it never sends an order again to be sure, never guesses an outcome, and has no plugins.
"""

__version__ = "0.1.0"
