"""A short, private directory for sockets: their paths may have 107 bytes only."""

import hashlib
import os
import tempfile
from pathlib import Path

from storage.embedded.accounts import Account
from storage.exceptions import FailedPrecondition

_LONGEST_PARENT = 70


def socket_directory(data_dir: Path, name: str, account: Account | None) -> Path:
    """The directory for the sockets of one of a data directory's servers; made with mode 0700.

    Args:
        data_dir: where the server keeps its files.
        name: the server's, a few letters.
        account: who owns the directory; None: this process's user.

    Raises:
        FailedPrecondition: somebody else made a directory of that name.
    """
    digest = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:12]
    parent = Path(tempfile.gettempdir())
    if len(os.fsencode(parent)) > _LONGEST_PARENT:
        parent = Path("/tmp")  # noqa: S108 - made private below
    directory = parent / f"penchant-{digest}-{name}"
    directory.mkdir(mode=0o700, exist_ok=True)
    ours = {os.getuid()} if account is None else {os.getuid(), account.uid}
    status = directory.lstat()
    if status.st_uid not in ours or not directory.is_dir() or directory.is_symlink():
        raise FailedPrecondition(f"{directory} belongs to somebody else; remove it.")
    directory.chmod(0o700)
    if account is not None:
        os.chown(directory, account.uid, account.gid)
    return directory
