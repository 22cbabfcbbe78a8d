"""Every operation of the installed letta-client, and whether this server has it.

`python -m tests.contract.operations` writes `operations.md` beside this file; a test compares it with
what the client and the routes say now.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from letta_client import Letta
from letta_client._resource import SyncAPIResource
from letta_client._version import __version__
from starlette.routing import Match
from starlette.types import Scope

from app.web import ENDPOINTS
from app.web.absent import ABSENT
from app.web.absent import routes as absent_routes
from app.web.endpoint import route_of
from app.web.services import Services

TABLE: Final = Path(__file__).with_name("operations.md")
# The client's own method for each HTTP method; a list is read with GET.
SENT_BY: Final = {
    "get": "GET",
    "_get": "GET",
    "_get_api_list": "GET",
    "_post": "POST",
    "_put": "PUT",
    "_patch": "PATCH",
    "_delete": "DELETE",
}


class Operation(NamedTuple):
    """A method of the client, `client.<name>`, and what it sends."""

    name: str
    method: str
    path: str


class Standing(NamedTuple):
    """Whether there is such an operation here: `done`, `501` or `absent`; `note` says what of it."""

    state: str
    note: str


# --- what the client sends --------------------------------------------------------------------


def operations() -> list[Operation]:
    """Give every operation of the client, by name."""
    with Letta(base_url="http://localhost", api_key="none") as client:
        found = [one for name in dir(Letta) for one in _under(client, name)]
    return sorted([*found, *_operation_of("health", Letta.health)])


def _under(owner: object, name: str, prefix: str = "") -> Iterator[Operation]:
    if name.startswith(("_", "with_")):
        return
    declared = inspect.getattr_static(type(owner), name)
    if inspect.isfunction(declared):
        if isinstance(owner, SyncAPIResource):
            yield from _operation_of(f"{prefix}{name}", declared)
        return
    resource = getattr(owner, name)
    if isinstance(resource, SyncAPIResource):
        for one in dir(resource):
            yield from _under(resource, one, f"{prefix}{name}.")


def _operation_of(name: str, function: Callable[..., object]) -> Iterator[Operation]:
    """Read off a method's source what it sends."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="self"), attr=sender), args=[path, *_]
            ) if sender in SENT_BY:
                yield Operation(name, SENT_BY[sender], _path_in(path))
            case _:
                pass


def _path_in(node: ast.expr) -> str:
    """Give a path as it stands: alone, or as the template that is filled in."""
    match node:
        case ast.Constant(value=str(path)):
            return path
        case ast.Call(args=[ast.Constant(value=str(path)), *_]):
            return path
        case _:
            raise ValueError(f"no path: {ast.unparse(node)}")


# --- what the server has ----------------------------------------------------------------------


def standing_of(operation: Operation) -> Standing:
    """Tell which route takes an operation."""
    path = re.sub(r"{(\w+)}", "x", operation.path)
    scope: Scope = {"type": "http", "method": operation.method, "path": path, "headers": []}
    for endpoint, route in zip(ENDPOINTS, _DONE, strict=True):
        if route.matches(scope)[0] is Match.FULL:
            if _only_refuses(endpoint.handler):
                return Standing("501", endpoint.summary)
            partly = " Some of it is 501." if 501 in endpoint.errors else ""
            return Standing("done", f"{endpoint.summary}{partly}")
    for row, route in zip(ABSENT, _TURNED_DOWN, strict=True):
        if route.matches(scope)[0] is Match.FULL:
            return Standing("501", row.instead)
    return Standing("absent", "No such route.")


def _only_refuses(handler: Callable[..., object]) -> bool:
    """Tell whether a handler can end in nothing but a refusal."""
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(handler))).body
    gives = any(isinstance(node, ast.Return) for node in ast.walk(function))
    match function:
        case ast.AsyncFunctionDef(body=[*_, ast.Raise()]):
            return not gives
        case _:
            return False


def _never() -> Services:
    raise AssertionError("routes are matched, not called")


_DONE: Final = [route_of(call, _never) for call in ENDPOINTS]
_TURNED_DOWN: Final = absent_routes()


# --- the table --------------------------------------------------------------------------------


def table() -> str:
    """Write the table."""
    rows = [(one, standing_of(one)) for one in operations()]
    counts = {state: sum(one.state == state for _, one in rows) for state in STATES}
    lines = [
        f"# The operations of letta-client {__version__}",
        "",
        f"{len(rows)} in all: {counts['done']} done, {counts['501']} answered with 501 and what to do "
        f"instead, {counts['absent']} absent.",
        "Written by `python -m tests.contract.operations`; a test compares.",
        "",
        "| client | request | here | |",
        "| --- | --- | --- | --- |",
        *(
            f"| `{one.name}` | {one.method} `{one.path}` | {standing.state} | {standing.note} |"
            for one, standing in rows
        ),
    ]
    return "\n".join(lines) + "\n"


STATES: Final = ("done", "501", "absent")

if __name__ == "__main__":
    TABLE.write_text(table())
