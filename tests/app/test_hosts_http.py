"""Web pages of elsewhere do not get at a server that only this machine is to reach."""

import pytest
from httpx2 import ASGITransport, AsyncClient, Response
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from app.web.hosts import KnownHosts

pytestmark = pytest.mark.sqlite
LOOPBACK = "http://127.0.0.1:8283"


async def answer(_: Request) -> PlainTextResponse:
    return PlainTextResponse("done")


async def post(headers: dict[str, str], at: str = LOOPBACK, allowed: str = "") -> Response:
    app = Starlette(
        routes=[Route("/", answer, methods=["POST"])],
        middleware=[Middleware(KnownHosts, allowed=tuple(filter(None, [allowed])))],
    )
    async with AsyncClient(transport=ASGITransport(app=app), base_url=at) as http:
        return await http.post("/", headers=headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "localhost:8283"},
        {"host": "LOCALHOST"},
        {"host": "localhost.:8283"},
        {"host": "everlog.localhost:8283"},
        {"host": "[::1]:8283"},
        {"host": "0.0.0.0:8283"},
        {"host": "localhost:8283", "origin": "http://localhost:8283"},
        {"host": "localhost:8283", "origin": "http://127.0.0.1:3000"},
        {"host": "0.0.0.0:8283", "origin": "http://0.0.0.0:8283"},
    ],
)
async def test_this_machine_is_let_in(headers: dict[str, str]) -> None:
    assert (await post(headers)).text == "done"
    assert (await post(headers, "http://[::1]:8283")).text == "done"


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"host": "rebound.example:8283"}, "rebound.example:8283"),
        ({"host": "localhost.example"}, "localhost.example"),
        ({"host": "127.0.0.1.example"}, "127.0.0.1.example"),
        ({"host": "[::1"}, "[::1"),
        ({"host": f"{'a.' * 250}localhost"}, "a." * 128),
        ({"host": ""}, ""),
        ({"origin": "https://page.example"}, "https://page.example"),
        ({"origin": "http://203.0.113.7"}, "http://203.0.113.7"),
        ({"origin": "https://localhost@page.example"}, "https://localhost@page.example"),
        ({"origin": "null"}, "null"),
        ({"origin": "moz-extension://localhost"}, "moz-extension://localhost"),
        ({"host": "a.example", "origin": "http://a.example"}, "a.example"),
    ],
)
async def test_a_strange_name_or_page_is_turned_down(headers: dict[str, str], named: str) -> None:
    refused = await post(headers)
    assert (refused.status_code, refused.headers["x-should-retry"]) == (403, "false")
    detail: str = refused.json()["detail"]
    assert detail.startswith("FORBIDDEN: ")
    assert repr(named) in detail
    assert "EVERLOG_ALLOWED_HOSTS" in detail


async def test_what_the_operator_allows_is_let_in() -> None:
    for headers in ({"host": "everlog.example"}, {"origin": "https://everlog.example:8443"}):
        assert (await post(headers, allowed="everlog.example")).text == "done"
        assert (await post(headers, allowed="other.example")).status_code == 403


async def test_what_does_not_come_over_loopback_is_not_looked_at() -> None:
    headers = {"host": "everlog.example", "origin": "https://page.example"}
    assert (await post(headers, "http://192.0.2.7:8283")).text == "done"
