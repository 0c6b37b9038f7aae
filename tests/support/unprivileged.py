"""The program as a user whom a file's mode binds, the superuser too.

Without `CAP_DAC_OVERRIDE` and `CAP_DAC_READ_SEARCH` root may do with its files what their modes let an owner do.
"""

import ctypes
import os
import sys
from typing import Final

from tests.support.stack import SERVE

_DROP_FROM_BOUNDING_SET: Final = (
    24  # prctl(2): PR_CAPBSET_DROP; what is not in this set no program gets that is run
)
_CAPABILITIES: Final = (1, 2)

if __name__ == "__main__":
    for capability in _CAPABILITIES:  # whoever may not drop them does not have them
        ctypes.CDLL(None).prctl(_DROP_FROM_BOUNDING_SET, capability, 0, 0, 0)
    os.execv(sys.executable, [sys.executable, "-m", *SERVE])  # noqa: S606 - no shell is wanted
