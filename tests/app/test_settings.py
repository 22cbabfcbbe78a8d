"""Settings: what the environment says, and what is said about what cannot be used."""

import os
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from app.settings import BadSetting, Settings, load, sqlite_path

BAD = [
    ("EVERLOG_PORT", "eighty", "integer"),
    ("EVERLOG_PORT", "65536", "65535"),
    ("EVERLOG_MODEL", "demo", "provider/model"),
    ("EVERLOG_DATABASE_URL", "mysql://me:secret@db/everlog", "not mysql"),
    ("EVERLOG_DATABASE_URL", "everlog.db", "sqlite:///everlog.db"),
    ("EVERLOG_DATABASE_URL", "postgresql://me:secret@[/everlog", "invalid IPv6 URL"),
    ("EVERLOG_DELTA_PACE_MS", "-1", "0"),
    ("EVERLOG_PING_INTERVAL_S", "0", "greater than 0"),
    ("EVERLOG_SLIDING_WINDOW_PERCENTAGE", "0", "greater than 0"),
    ("EVERLOG_SLIDING_WINDOW_PERCENTAGE", "1.1", "less than or equal to 1"),
    ("EVERLOG_SLIDING_WINDOW_PERCENTAGE", "nan", "finite"),
    ("EVERLOG_CONTEXT_WINDOWS", "{", "not JSON"),
    ("EVERLOG_CONTEXT_WINDOWS", '{"demo/echo": 0}', "greater than 0"),
    ("ANTHROPIC_BASE_URL", "localhost:8000", "http"),
    ("OPENAI_BASE_URL", "localhost:8000", "http"),
    ("EVERLOG_EMBEDDING_MODEL", "demo/echo", "openai/model"),
    ("EVERLOG_EMBEDDING_MODEL", "openai/text-embedding-3-small", "needs OPENAI_API_KEY"),
    ("EVERLOG_EMBEDDING_DIMENSIONS", "0", "greater than or equal to 8"),
]


def test_without_an_environment_everything_has_a_default() -> None:
    settings = load()
    assert (settings.host, settings.port) == ("127.0.0.1", 8283)
    assert settings.database == "everlog.db"
    assert settings.default_model == "demo/echo"
    assert settings.anthropic_api_key is None
    assert settings.node.endswith(f"/{os.getpid()}")


def test_the_environment_is_read_under_the_names_that_are_documented(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EVERLOG_DATABASE_URL", "sqlite:////data/a.db")
    monkeypatch.setenv("EVERLOG_MODEL", "anthropic/claude")
    monkeypatch.setenv("EVERLOG_CONTEXT_WINDOWS", '{"anthropic/mine": 1000}')
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
    settings = load()
    assert settings.database == "/data/a.db"
    assert settings.default_model == "anthropic/claude"
    assert settings.context_windows == {"anthropic/mine": 1000}
    assert settings.anthropic_api_key == SecretStr("key")


def test_what_is_given_wins_over_the_environment_and_none_gives_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EVERLOG_PORT", "1234")
    monkeypatch.setenv("EVERLOG_HOST", "::1")
    settings = load(port=0, host=None)
    assert (settings.port, settings.host) == (0, "::1")


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "")
    monkeypatch.setenv("EVERLOG_PORT", "")
    assert (load().anthropic_api_key, load().port) == (None, 8283)


@pytest.mark.parametrize(("variable", "value", "words"), BAD)
def test_a_bad_value_is_named_in_one_line_without_the_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadSetting) as refusal:
        load()
    said = str(refusal.value)
    assert said.startswith(f"{variable}: ")
    assert words in said
    assert "\n" not in said
    assert "secret" not in said


def test_all_bad_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERLOG_PORT", "x")
    monkeypatch.setenv("EVERLOG_MODEL", "x")
    with pytest.raises(BadSetting, match=r"EVERLOG_PORT.*; EVERLOG_MODEL"):
        load()


def test_the_key_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "hush")
    assert "hush" not in f"{load()!r} {load()}"


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load().port = 1  # pyright: ignore[reportAttributeAccessIssue] - what is tested


def test_a_setting_that_does_not_exist_is_refused() -> None:
    with pytest.raises(BadSetting, match="prot"):
        load(prot=1)


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_can_be_given_by_its_name(name: str) -> None:
    value = getattr(load(), name)
    assert value is None or getattr(load(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///a.db", "a.db"),
        ("sqlite:///data/a.db", "data/a.db"),
        ("sqlite:////a.db", "/a.db"),
    ],
)
def test_three_slashes_are_relative_and_four_absolute(url: str, path: str) -> None:
    assert sqlite_path(url) == Path(path)


@pytest.mark.parametrize(
    "url", ["", "a.db", "sqlite://", "sqlite:///", "sqlite://host/a.db", "sqlite:///:memory:"]
)
def test_a_url_without_a_file_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="sqlite:///"):
        sqlite_path(url)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("sqlite:///a.db", "a.db"),
        ("postgresql://me:secret@db:5433/everlog?sslmode=require", "postgresql://db:5433/everlog"),
        ("postgres://db/everlog", "postgresql://db/everlog"),
        (
            "postgresql:///everlog?host=/run/pg&password=secret",
            "postgresql:///everlog?host=/run/pg",
        ),
    ],
)
def test_a_database_is_shown_without_what_is_secret(url: str, name: str) -> None:
    assert load(database_url=url).database == name
