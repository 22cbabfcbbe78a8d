"""What the operator says, read from the environment once; no other module reads it."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import parse_qs, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveInt,
    SecretStr,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import from_json
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.mcp_config import McpServer, servers_of
from domain.compaction import PERCENTAGE_DEFAULT

PREFIX: Final = "EVERLOG_"
POSTGRES_SCHEMES: Final = ("postgresql", "postgres")
MEBIBYTE: Final = 1024 * 1024


class BadSetting(Exception):
    """A value that cannot be used; the message is one line and names the variable."""


def sqlite_path(url: str) -> Path | None:
    """Give the file that a database URL names, None if it names a Postgres.

    As everywhere, three slashes lead to a relative path and four to an absolute one. Raises
    ValueError for any other kind of URL.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ValueError("must be a URL; a file is written as sqlite:///everlog.db")
    if scheme in POSTGRES_SCHEMES:
        return None
    if scheme != "sqlite":
        # The rest of the URL may hold a password, so only its scheme is repeated.
        raise ValueError(f"must be sqlite:///FILE or postgresql://…, not {scheme}")
    path = rest.removeprefix("/")
    if path == rest or path in ("", ":memory:") or path.endswith("/"):
        raise ValueError("names no file; write sqlite:///relative.db or sqlite:////absolute.db")
    return Path(path)


def shown(url: str) -> str:
    """Name a database without what is secret in its URL."""
    path = sqlite_path(url)
    if path is not None:
        return str(path)
    parts = urlsplit(url)
    socket = parse_qs(parts.query).get("host", [""])[0]
    where = f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return f"{where}?host={socket}" if socket else where


def _database_url(url: str) -> str:
    shown(url)
    return url


def _handle(handle: str) -> str:
    provider, _, model = handle.partition("/")
    if not (provider and model):
        raise ValueError("must be provider/model, such as demo/echo")
    return handle


def _embedding_handle(handle: str, info: ValidationInfo) -> str:
    if not handle.startswith("openai/") or handle == "openai/":
        raise ValueError("must be openai/model, which any server of OpenAI's protocol can answer")
    if info.data.get("openai_api_key") is None and info.data.get("openai_base_url") is None:
        raise ValueError("needs OPENAI_API_KEY, or OPENAI_BASE_URL where no key is wanted")
    return handle


def _http_url(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    return url


def _json(value: object) -> object:
    """Parse here rather than in the library, so that all problems are told in the same way."""
    if not isinstance(value, str):
        return value
    try:
        return from_json(value)
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from error


def _mcp_servers(value: object) -> object:
    """Read them here, where the environment may be read that they name variables of."""
    return servers_of(value, os.environ) if isinstance(value, str) else value


def _names(value: object) -> object:
    """Part names by their commas; a name has no capitals, as far as hosts are concerned."""
    if not isinstance(value, str):
        return value
    return tuple(filter(None, (one.strip().lower() for one in value.split(","))))


def _node() -> str:
    """Name this process: in a claim it says who has taken a run."""
    return f"{platform.node() or 'localhost'}/{os.getpid()}"


Handle = Annotated[str, AfterValidator(_handle)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
# Tokens by handle, for models that no library knows: {"anthropic/my-model": 200000}.
Windows = Annotated[Mapping[Handle, PositiveInt], NoDecode, BeforeValidator(_json)]
# JSON, or the path of a file: {"mcpServers": {"files": {"command": "mcp-files", "args": ["/srv"]}}}.
McpServers = Annotated[Mapping[str, McpServer], NoDecode, BeforeValidator(_mcp_servers)]

# Names with commas between.
Hosts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)]


class Settings(BaseSettings):
    """How this server is to run. A variable is `EVERLOG_` and the field's name in capitals."""

    model_config = SettingsConfigDict(
        frozen=True,
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        populate_by_name=True,
        protected_namespaces=(),
    )

    database_url: Annotated[str, AfterValidator(_database_url)] = "sqlite:///everlog.db"
    host: str = "127.0.0.1"
    port: int = Field(default=8283, ge=0, le=65535)
    # Over loopback these may be what the server is called, and where pages that call it are from.
    allowed_hosts: Hosts = ()
    node: str = Field(default_factory=_node, min_length=1, max_length=256)

    default_model: Handle = Field(default="demo/echo", validation_alias="EVERLOG_MODEL")
    anthropic_api_key: SecretStr | None = Field(default=None, validation_alias="ANTHROPIC_API_KEY")
    anthropic_base_url: HttpUrl | None = Field(default=None, validation_alias="ANTHROPIC_BASE_URL")
    openai_api_key: SecretStr | None = Field(default=None, validation_alias="OPENAI_API_KEY")
    openai_base_url: HttpUrl | None = Field(default=None, validation_alias="OPENAI_BASE_URL")
    # What passages mean, for searches of archival memory; without it they go by words alone.
    embedding_model: Annotated[str, AfterValidator(_embedding_handle)] | None = None
    embedding_dimensions: int | None = Field(default=None, ge=8, le=8192)
    model_timeout_s: float = Field(default=120.0, gt=0, le=3600)
    reply_timeout_s: float = Field(default=900.0, gt=0, le=24 * 3600)
    model_retry_pause_s: float = Field(default=0.5, ge=0, le=60)
    tool_timeout_s: float = Field(default=60.0, gt=0, le=3600)
    mcp_servers: McpServers = Field(default_factory=dict[str, McpServer])
    context_windows: Windows = Field(default_factory=dict[str, int])
    demo_word_delay_s: float = Field(default=0.03, ge=0, le=10)

    # The share that leaves a sliding window, for agents that do not say; kept by those made with it.
    sliding_window_percentage: float = Field(
        default=PERCENTAGE_DEFAULT, gt=0, le=1, allow_inf_nan=False
    )

    callback_secret: SecretStr | None = None
    callback_private_addresses: bool = False
    callback_pause_s: float = Field(default=1.0, ge=0, le=600)

    delta_pace_ms: int = Field(default=25, ge=0, le=10_000)
    ping_interval_s: float = Field(default=20.0, gt=0, le=3600)
    body_bytes_max: int = Field(default=10 * MEBIBYTE, ge=1024, le=1024 * MEBIBYTE)
    # 0 makes a node that serves requests and leaves all runs to the others.
    runs_at_once_max: int = Field(default=256, ge=0, le=100_000)

    # Reading threads, each with a connection of its own; on Postgres a node has two more, one that
    # writes and one that listens.
    database_readers: int = Field(default=4, ge=1, le=64)
    database_connect_timeout_s: float = Field(default=3.0, ge=1, le=60)
    database_statement_timeout_s: float = Field(default=5.0, ge=0.1, le=3600)
    database_lock_timeout_s: float = Field(default=2.0, ge=0.1, le=3600)
    # How long a commit without an answer is tried again before it is answered with 503.
    database_patience_s: float = Field(default=5.0, ge=0, le=300)

    @property
    def database(self) -> str:
        """The database, as it may be shown."""
        return shown(self.database_url)


def load(**given: Any) -> Settings:
    """Read the settings; those `given`, None aside, win over the environment. Raises BadSetting."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise BadSetting("; ".join(map(_problem_of, error.errors()))) from None


def _problem_of(error: Any) -> str:
    """Spell a problem without the value, which may be a secret."""
    words = str(error["msg"]).removeprefix("Value error, ")
    return f"{variable_of(str(error['loc'][0]))}: {words[:1].lower()}{words[1:]}"


def variable_of(field: str) -> str:
    """Name the environment variable of a field; an alias is its own name."""
    known = Settings.model_fields.get(field)
    if known is None:
        return field
    alias = known.validation_alias
    return alias if isinstance(alias, str) else f"{PREFIX}{field.upper()}"
