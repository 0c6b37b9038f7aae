"""The composition root: the only room that names concrete classes. `storage` opens, `instance` runs."""

from typing import TYPE_CHECKING, Any

from gateway.wiring.storage import Storage, open_administration, open_orders, open_storage

if TYPE_CHECKING:
    from gateway.wiring.instance import Instance, running, serve

__all__ = ["Instance", "Storage", "open_administration", "open_orders", "open_storage", "running", "serve"]


def __getattr__(name: str) -> Any:
    """An instance's parts when they are first asked for: the web framework takes longer to load than a command."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gateway.wiring import instance

    return getattr(instance, name)
