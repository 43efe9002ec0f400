"""The pepper where the settings bring none: a file below the data directory, made once."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from storage.exceptions import FailedPrecondition

_PEPPER_BYTES = 32


def kept_pepper(data_dir: Path) -> bytes:
    """The pepper of a data directory, as text; made when there is none.

    Processes that make it at the same time all return the one that was first.

    Raises:
        FailedPrecondition: it can be neither read nor made.
    """
    path = data_dir / "secrets" / "pepper"
    try:
        if not path.exists():
            _make(path)
        pepper = path.read_bytes().strip()
    except OSError as error:
        raise FailedPrecondition(
            f"PENCHANT_KEY_PEPPER is not set, and {path} can be neither read nor made: "
            f"{error.strerror}."
        ) from error
    if len(pepper) < _PEPPER_BYTES:
        raise FailedPrecondition(f"{path} holds no pepper: restore it from a backup.")
    return pepper


def _make(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with open(draft, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(secrets.token_hex(_PEPPER_BYTES).encode())
        file.flush()
        os.fsync(file.fileno())
    try:
        # A link appears whole or not at all, and never in the place of another.
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
