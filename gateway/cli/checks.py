"""What `ordergate doctor` looks at on this machine: the disk, the file system, the ports."""

import errno
import http.client
import os
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from gateway.errors import StorageUnreachable

FAILED: Final = 1
UNREACHABLE: Final = StorageUnreachable.exit_code
_ANSWER_WITHIN_S: Final = 2.0
_MIB: Final = 1 << 20
# Where several machines may hold one file, none of them can lock it, or map its shared memory, for all.
_REMOTE: Final = frozenset({
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "lustre", "gpfs", "beegfs", "gfs2", "ocfs2", "glusterfs",
    "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone", "vboxsf", "prl_fs", "vmhgfs",
})  # fmt: skip


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. `status` is the exit status that a failed check asks for; 0 where it is good."""

    check: str
    detail: str
    status: int = 0

    @property
    def ok(self) -> bool:
        return self.status == 0


def check_disk(path: Path, min_free_bytes: int) -> Check:
    """Whether the ledger's disk has what readiness asks for."""
    free = shutil.disk_usage(nearest(path.parent)).free
    found = f"{free // _MIB} MiB are free"
    if free < min_free_bytes:
        asked = f"storage.min_free_bytes asks for {min_free_bytes // _MIB} MiB: make room"
        return Check(check="disk", detail=f"{found}, {asked}", status=UNREACHABLE)
    return Check(check="disk", detail=found)


def check_filesystem(path: Path) -> Check:
    """Whether the ledger lies on a local file system, as far as the kernel says."""
    kind = _filesystem(nearest(path.parent).resolve(), _mounts())
    if kind in _REMOTE:
        detail = f"{path} lies on {kind}: SQLite can lose data there; set storage.url to a path on a local disk"
        return Check(check="file system", detail=detail, status=UNREACHABLE)
    return Check(check="file system", detail=f"local ({kind})" if kind else "this system does not tell its kind")


def check_port(setting: str, host: str, port: int) -> Check:
    """Whether the port is free, or an Ordergate answers on it."""
    what = f"port {port}"
    if port == 0:
        return Check(check=setting, detail="takes any free port")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as fault:
        if fault.errno != errno.EADDRINUSE:
            detail = f"{host}:{port} cannot be listened on: {fault.strerror}"
            return Check(check=setting, detail=detail, status=FAILED)
        if _is_gateway(host, port):
            return Check(check=setting, detail=f"a gateway answers on {what}")
        detail = f"{what} is taken by another program: stop that, or set {setting}.port"
        return Check(check=setting, detail=detail, status=FAILED)
    return Check(check=setting, detail=f"{what} is free")


def nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def may_be_made(path: Path) -> bool:
    """Whether this user can make that file."""
    return os.access(nearest(path.parent), os.W_OK | os.X_OK)


def _is_gateway(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=_ANSWER_WITHIN_S)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        return answer.status == 200 and b'"status"' in answer.read(1_024)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _mounts() -> Sequence[tuple[str, str]]:
    """(mount point, kind) of every mounted file system, the latest last; empty where the kernel does not say."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ()
    fields = (line.split(" ") for line in lines)
    return [(found[4].replace("\\040", " "), found[found.index("-") + 1]) for found in fields]


def _filesystem(folder: Path, mounts: Sequence[tuple[str, str]]) -> str:
    """The kind of the file system that the folder lies on: of the longest mount point above it, the latest."""
    above = [(point, kind) for point, kind in reversed(mounts) if folder.is_relative_to(point)]
    return max(above, key=lambda mount: len(mount[0]), default=("", ""))[1]
