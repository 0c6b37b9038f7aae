"""The composition root: the only room that names concrete classes.

`storage` and `upstream` open; `instance` runs and `stopping` ends what it runs. `instance` is not imported here: the
web framework takes longer to load than a command.
"""

from gateway.wiring.storage import Storage, open_administration, open_orders, open_storage

__all__ = ["Storage", "open_administration", "open_orders", "open_storage"]
