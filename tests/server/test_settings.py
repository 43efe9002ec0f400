"""Settings from the environment, and on their way to a child process."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from server.settings import Settings
from server.transfer import read_settings, write_settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "XDG_DATA_HOME", "PENCHANT_PORT"):
        monkeypatch.delenv(name, raising=False)


def test_settings_have_defaults() -> None:
    settings = Settings()
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 50051, 1)
    assert settings.data_dir == Path.home() / ".local" / "share" / "penchant"
    assert settings.database.url is None


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENCHANT_PORT", "0")
    monkeypatch.setenv("PENCHANT_LOG_FORMAT", "json")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:secret@h/d")
    monkeypatch.setenv("AUTO_RUN_MIGRATIONS", "false")
    settings = Settings()
    assert (settings.port, settings.log_format) == (0, "json")
    assert settings.data_dir == Path("/data/penchant")
    assert not settings.migrations.auto_run
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", 65536), ("workers", 0), ("log_level", "loud"), ("default_deadline_secs", 0)],
)
def test_settings_out_of_range_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        Settings.model_validate({name: value})


def test_settings_are_all_described() -> None:
    undescribed = [n for n, field in Settings.model_fields.items() if not field.description]
    assert undescribed == []


def test_settings_reach_a_child_whatever_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:secret@h/d")
    settings = Settings(port=7, data_dir=Path("/data"))
    text = write_settings(settings)
    monkeypatch.setenv("DATABASE_URL", "postgresql://other/d")
    monkeypatch.setenv("PENCHANT_PORT", "8")
    assert read_settings(text) == settings
