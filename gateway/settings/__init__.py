"""File and environment in, one frozen `Settings` out, or every fault at once with its line and column.

`model` has the settings themselves, `table` the same as rows, `document` reads YAML with positions, `reader` joins
file and environment, `rules` says what one setting asks of another. Imports nothing of the gateway but `errors`.
"""

from gateway.settings.model import (
    AdminApi,
    Admission,
    Budget,
    Idempotency,
    Log,
    Reconcile,
    Secrets,
    Settings,
    Shutdown,
    Storage,
    TenantApi,
    Upstream,
)
from gateway.settings.reader import DEFAULT_FILE, load_settings
from gateway.settings.table import (
    EVERY_SETTING,
    Changes,
    SettingInfo,
    ShownSetting,
    changes,
    describe_settings,
    reloaded,
)

__all__ = [
    "DEFAULT_FILE",
    "EVERY_SETTING",
    "AdminApi",
    "Admission",
    "Budget",
    "Changes",
    "Idempotency",
    "Log",
    "Reconcile",
    "Secrets",
    "SettingInfo",
    "Settings",
    "ShownSetting",
    "Shutdown",
    "Storage",
    "TenantApi",
    "Upstream",
    "changes",
    "describe_settings",
    "load_settings",
    "reloaded",
]
