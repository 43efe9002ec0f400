"""The server's secret: keys by purpose, from a pepper that is given or kept in a file."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from engine.secret import ServerSecret
from storage.exceptions import FailedPrecondition

PEPPER = SecretStr("p" * 32)


def test_key_of_a_purpose_is_the_same_everywhere(tmp_path: Path) -> None:
    here, there = ServerSecret(tmp_path, PEPPER), ServerSecret(tmp_path / "other", PEPPER)
    assert here.derive("api keys") == there.derive("api keys")
    assert here.fingerprint == there.fingerprint


def test_keys_differ_by_purpose_and_pepper(tmp_path: Path) -> None:
    other = ServerSecret(tmp_path, SecretStr("q" * 32))
    secret = ServerSecret(tmp_path, PEPPER)
    found = {secret.derive("a"), secret.derive("b"), other.derive("a")}
    assert sorted(map(len, found)) == [32, 32, 32]
    assert secret.fingerprint != other.fingerprint


def test_given_pepper_makes_no_file(tmp_path: Path) -> None:
    ServerSecret(tmp_path, PEPPER).derive("a")
    assert list(tmp_path.iterdir()) == []


def test_kept_pepper_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = set(threads.map(lambda _: ServerSecret(tmp_path / "data").derive("a"), range(16)))
    assert len(made) == 1
    (file,) = (tmp_path / "data" / "secrets").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_pepper_that_was_cut_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "pepper").write_text("short")
    with pytest.raises(FailedPrecondition, match="holds no pepper"):
        ServerSecret(tmp_path).derive("a")


def test_pepper_that_cannot_be_kept_is_refused() -> None:
    with pytest.raises(FailedPrecondition, match="PENCHANT_KEY_PEPPER is not set"):
        ServerSecret(Path("/dev/null")).derive("a")


def test_secret_shows_nothing_of_itself(tmp_path: Path) -> None:
    assert "ppp" not in repr(ServerSecret(tmp_path, PEPPER))
