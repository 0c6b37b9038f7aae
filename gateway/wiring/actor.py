"""Who is at the command line, for the audit log."""

import os
import pwd


def actor() -> str:
    """The operating system's name of this process's user; `uid N` where it has none, as in many containers.

    Not what the environment calls it: whoever runs a command writes that.
    """
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
