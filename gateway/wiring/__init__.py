"""The composition root: the only room that names concrete classes. `storage` opens, `instance` runs."""

from gateway.wiring.instance import Instance, running, serve
from gateway.wiring.storage import Storage, open_administration, open_orders, open_storage

__all__ = ["Instance", "Storage", "open_administration", "open_orders", "open_storage", "running", "serve"]
