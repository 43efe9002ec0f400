"""PostgreSQL refuses to run as root: then it runs under an account of its own."""

import os
import pwd
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

_ACCOUNT = "pgserver"
_SBIN = "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin"
_TRAVERSE = 0o001
_READ_AND_TRAVERSE = 0o005


@dataclass(frozen=True, slots=True)
class Account:
    """A system account's numbers."""

    uid: int
    gid: int


def postgres_account() -> Account | None:
    """The account for PostgreSQL when this process is root, created if missing; else None."""
    if os.getuid() != 0:
        return None
    for _ in range(50):
        try:
            entry = pwd.getpwnam(_ACCOUNT)
        except KeyError:
            # Fails harmlessly when another process holds the account files at this moment.
            # An empty environment has no PATH, and the default one lacks the sbin directories.
            program = shutil.which("useradd", path=_SBIN)
            if program is None:
                break
            command = [program, "--system", "--user-group", "--no-create-home"]
            subprocess.run(  # noqa: S603
                [*command, "--shell", "/usr/sbin/nologin", _ACCOUNT],
                check=False,
                capture_output=True,
            )
            time.sleep(0.05)
        else:
            return Account(entry.pw_uid, entry.pw_gid)
    raise OSError(f"the system account {_ACCOUNT} cannot be created; run as another user than root")


def let_through(path: Path) -> None:
    """Lets other accounts walk through the directories above `path`, without reading them."""
    for directory in path.resolve().parents:
        _add_mode(directory, _TRAVERSE)


def let_read(tree: Path) -> None:
    """Lets other accounts read an installation, if its own modes do not."""
    if tree.stat().st_mode & _READ_AND_TRAVERSE == _READ_AND_TRAVERSE:
        return
    for path in (*tree.rglob("*"), tree):
        executable = path.is_dir() or path.stat().st_mode & 0o100
        _add_mode(path, _READ_AND_TRAVERSE if executable else 0o004)


def _add_mode(path: Path, bits: int) -> None:
    mode = path.stat().st_mode
    if mode & bits != bits:
        path.chmod(mode | bits)
