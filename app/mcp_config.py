"""Which MCP servers there are, as the operator writes it: the usual `mcpServers` object."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import from_json

SERVERS_MAX: Final = 64
NAME_CHARS_MAX: Final = 32
FILE_BYTES_MAX: Final = 1024 * 1024
VARIABLE: Final = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
# Underscores in pairs part a server's name from its tools'.
NAME: Final = re.compile(r"(?!.*__)[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?")


class _Server(BaseModel):
    """What all servers have. `requires_approval`: all of its tools, or those named."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    disabled: bool = False
    requires_approval: bool | list[str] = False

    def gates(self, tool: str) -> bool:
        """Tell whether a tool runs only with the client's approval, unless an agent says else."""
        gated = self.requires_approval
        return gated if isinstance(gated, bool) else tool in gated


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("the character NUL cannot be passed on")
    return text


Argument = Annotated[str, AfterValidator(_no_nul)]


class StdioServer(_Server):
    """A server that is a child process. It sees `env` and a few harmless variables, not ours."""

    type: Literal["stdio"] = "stdio"
    command: Annotated[Argument, Field(min_length=1)]
    args: list[Argument] = Field(default_factory=list[str], repr=False)
    env: dict[str, Argument] = Field(default_factory=dict[str, str], repr=False)
    cwd: Argument | None = None


class HttpServer(_Server):
    """A server behind a URL (streamable HTTP)."""

    type: Literal["http", "streamable-http", "streamable_http"] = "http"
    url: Annotated[str, Field(pattern=r"^https?://[^/\s]", repr=False)]
    headers: dict[str, str] = Field(default_factory=dict[str, str], repr=False)


McpServer: TypeAlias = StdioServer | HttpServer
_ADAPTERS: Final[dict[str, TypeAdapter[Any]]] = {
    "command": TypeAdapter(StdioServer),
    "url": TypeAdapter(HttpServer),
}


def servers_of(text: str, environment: Mapping[str, str]) -> dict[str, McpServer]:
    """Read the servers from JSON or from the file that is named; disabled ones are left out.

    `${NAME}` and `${NAME:-otherwise}` stand for variables of `environment`. Raises ValueError,
    which repeats no value: some are secret.
    """
    named = _object(_object(_parsed(text)).get("mcpServers"))
    if len(named) > SERVERS_MAX:
        raise ValueError(f"at most {SERVERS_MAX} servers, not {len(named)}")
    made = {name: _server(name, given, environment) for name, given in named.items()}
    return {name: server for name, server in made.items() if not server.disabled}


def _object(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    raise ValueError('must be a JSON object such as {"mcpServers": {…}}, or a file with one')


def _parsed(text: str) -> Any:
    if text.lstrip().startswith("{"):
        return _json(text, "is not JSON")
    path = Path(text)
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ValueError(f"{text}: larger than {FILE_BYTES_MAX} bytes")
        return _json(path.read_text("utf-8"), f"{text}: not JSON")
    except UnicodeDecodeError:
        raise ValueError(f"{text}: not UTF-8") from None
    except OSError as error:
        raise ValueError(f"cannot read {text}: {error.strerror}") from None


def _json(text: str, problem: str) -> Any:
    try:
        return from_json(text)
    except ValueError as error:
        raise ValueError(f"{problem}: {error}") from None


def _server(name: str, given: Any, environment: Mapping[str, str]) -> McpServer:
    if NAME.fullmatch(name) is None or len(name) > NAME_CHARS_MAX:
        raise ValueError(
            f"server {name[:64]!r}: a name is 1 to {NAME_CHARS_MAX} letters, digits, hyphens and "
            "single underscores, and begins and ends with a letter or digit"
        )
    if not isinstance(given, dict) or ("command" in given) == ("url" in given):
        raise ValueError(f"server {name!r}: needs either a command or a url")
    filled = _filled(given, environment, f"server {name!r}")
    if filled.get("type") == "sse":
        raise ValueError(f"server {name!r}: type: of HTTP transports only streamable HTTP is known")
    try:
        return _ADAPTERS["url" if "url" in filled else "command"].validate_python(filled)
    except ValidationError as error:
        raise ValueError(f"server {name!r}: {_problem(error)}") from None


def _problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(one) for one in first["loc"][:2])
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"


def _filled(value: Any, environment: Mapping[str, str], where: str) -> Any:
    """Put variables in their places, at whatever depth."""

    def variable(found: re.Match[str]) -> str:
        name: str = found[1]
        otherwise: str | None = found[2]
        if name not in environment and otherwise is None:
            raise ValueError(f"{where}: the variable {name} is not set")
        return environment.get(name) or otherwise or ""

    if isinstance(value, str):
        return VARIABLE.sub(variable, value)
    if isinstance(value, list):
        return [_filled(one, environment, where) for one in cast("list[Any]", value)]
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value).items()
        return {key: _filled(one, environment, where) for key, one in pairs}
    return value
