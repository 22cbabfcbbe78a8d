"""Asking a running server, in the words in which commands fail."""

import ipaddress
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import httpx2

from app.commands import MISUSED, CommandFailed
from app.commands.lines import printable
from domain.streams import AGENT, CONVERSATION, is_id

# The server gives a sign of life every 20 s unless it is set otherwise.
TIMEOUT: Final = httpx2.Timeout(5.0, read=90.0)


def client_of(url: str) -> httpx2.Client:
    """Make a client of the server at a URL."""
    return httpx2.Client(base_url=url, timeout=TIMEOUT, trust_env=not is_local(url))


def is_local(url: str) -> bool:
    """Tell whether a URL leads to this machine, where no proxy can."""
    host = httpx2.URL(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def checked(answer: httpx2.Response) -> httpx2.Response:
    """Give a good answer back. Raises CommandFailed in the server's words."""
    if answer.is_success:
        return answer
    answer.read()
    try:
        detail = answer.json()["detail"]
    except (ValueError, LookupError, TypeError):
        detail = f"HTTP {answer.status_code}: is this an Everlog server?"
    said = printable(str(detail))
    raise CommandFailed(f"The server at {answer.url.host}:{answer.url.port} says: {said}")


def unreachable(url: str, error: httpx2.TransportError) -> CommandFailed:
    """Say that no server is there."""
    return CommandFailed(
        f"There is no Everlog at {url} ({error}). Is `everlog serve` running there?"
    )


class Conversation:
    """A conversation on a server, as the routes of the audit see it."""

    def __init__(self, client: httpx2.Client, conversation_id: str, *, deleted: bool) -> None:
        self._client = client
        self._path = f"/v1/conversations/{conversation_id}"
        self._deleted = {"deleted": "true"} if deleted else {}

    def get(self, path: str, **query: Any) -> Any:
        """Get JSON. Raises CommandFailed."""
        return self._asked("GET", path, {**query, **self._deleted})

    def post(self, path: str, **query: Any) -> Any:
        """Have something done; give the answer. Raises CommandFailed."""
        return self._asked("POST", path, query)

    def _asked(self, method: str, path: str, query: Mapping[str, Any]) -> Any:
        try:
            answer = self._client.request(method, f"{self._path}/{path}", params=query)
        except httpx2.TransportError as error:
            raise unreachable(str(self._client.base_url), error) from error
        return checked(answer).json()


@contextmanager
def conversation_on(
    url: str, conversation_id: str, *, deleted: bool = False
) -> Generator[Conversation]:
    """Speak about a conversation; an agent's id means the agent's own. Raises CommandFailed."""
    if not is_id(CONVERSATION, conversation_id) and not is_id(AGENT, conversation_id):
        raise CommandFailed(
            f"{conversation_id!r} is not the id of a conversation; those are "
            f"{CONVERSATION}-<uuid4>, or {AGENT}-<uuid4> for an agent's own.",
            MISUSED,
        )
    with client_of(url) as client:
        yield Conversation(client, conversation_id, deleted=deleted)
