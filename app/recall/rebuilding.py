"""The exact request of any step, rebuilt from the log and checked against the hash it left there."""

import hashlib
from dataclasses import dataclass
from typing import Any

import orjson

from app.log import Log
from app.mapper import revive
from app.providers import ModelError
from app.providers.catalogue import Catalogue
from app.storage.lineages import Chain
from app.storage.store import Store
from app.windows import Windows
from domain.content import ToolSchema
from domain.errors import NotFound
from domain.event import Value
from domain.run import RunClaimed, RunQueued, RunRequest, StepStarted
from projections.request import RENDERER, canonical, offer_of, request_of
from projections.turns import ModelRequest

CLAIMED = "run.claimed"


class Sent(Value):
    """What the vendor's server receives: `body` is the exact bytes, `sha256` theirs.

    `path` is that of the address at which the vendor is reached now; of the headers there are those
    that say how the body is meant, the key not among them.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: str
    sha256: str


class RebuiltRequest(Value):
    """The request of a step, made again. `offset` is the step's; `sha256` is from the log.

    `request` is canonical: spelled as JSON with sorted keys and no spaces it has `rebuilt_sha256`.
    `matches` tells whether both hashes are the same: only then it is what the model got. `wire` is
    null where no vendor is. `problem` tells why a request, or its wire, could not be rebuilt.
    """

    step_id: str
    offset: int
    run_id: str
    model: str
    attempt: int
    renderer: str
    sha256: str
    rebuilt_sha256: str | None = None
    matches: bool = False
    request: dict[str, Any] | None = None
    wire: Sent | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """A step as it began at offset `s`, and where its run was queued; `claimed` is its claim."""

    s: int
    started: StepStarted
    asked: RunRequest | None
    claimed: RunClaimed | None
    own_tools: tuple[ToolSchema, ...] = ()


class Rebuilding:
    """Rebuilds requests: reads the log, and asks providers how they would say it."""

    def __init__(self, log: Log, windows: Windows, catalogue: Catalogue) -> None:
        self._log = log
        self._windows = windows
        self._catalogue = catalogue

    async def rebuilt(self, stream: str, step_id: str) -> RebuiltRequest:
        """Rebuild the request of a step of a conversation. Raises NotFound.

        A fork's inherited steps are its ancestors': they got what was in the window there.
        """
        store = self._log.store
        stream, begun = await self._log.in_reader(lambda: begun_step(store, stream, step_id))
        renderer = begun.started.manifest.renderer
        if renderer != RENDERER:
            words = f"It was rendered by {renderer!r}, and this version knows only {RENDERER!r}."
            return _answer(begun, problem=words)
        request = await self._request(stream, begun)
        if request is None:
            return _answer(begun, problem="The log does not tell how the run was asked for.")
        spelled = canonical(request)
        sha256 = hashlib.sha256(spelled).hexdigest()
        wire, problem = await self._wire(request)
        return _answer(
            begun,
            rebuilt_sha256=sha256,
            matches=sha256 == begun.started.manifest.sha256,
            request=orjson.loads(spelled),
            wire=wire,
            problem=problem,
        )

    async def _request(self, stream: str, begun: Begun) -> ModelRequest | None:
        """Do again what the step did, with what it had before it."""
        if begun.asked is None or begun.claimed is None:
            return None
        manifest = begun.started.manifest
        offer = offer_of(begun.own_tools, begun.claimed, manifest.tools_at)
        # Facts may have come between the window that was rendered and the step.
        at = begun.s - 1 if manifest.window_at is None else manifest.window_at
        window = await self._windows.at(stream, at)
        handle = self._catalogue.meant(begun.started.model)
        return request_of(window, handle, begun.asked, begun.claimed, offer)

    async def _wire(self, request: ModelRequest) -> tuple[Sent | None, str | None]:
        """Give what the vendor receives, or why there is nothing."""
        provider = self._catalogue.renderer(request.provider)
        if provider is None:
            return None, f"This version knows no provider {request.provider!r}."
        try:
            wire = await provider.wire_of(request)
        except ModelError as error:
            return None, f"Nothing is sent for it: {error.message}"
        if wire is None:
            return None, None
        sha256 = hashlib.sha256(wire.body.encode()).hexdigest()
        sent = Sent(
            method=wire.method,
            path=wire.path,
            headers=dict(wire.headers),
            body=wire.body,
            sha256=sha256,
        )
        return sent, None


def _answer(begun: Begun, **rebuilt: Any) -> RebuiltRequest:
    started = begun.started
    return RebuiltRequest(
        step_id=started.step_id,
        offset=begun.s,
        run_id=started.run_id,
        model=started.model,
        attempt=started.attempt,
        renderer=started.manifest.renderer,
        sha256=started.manifest.sha256,
        **rebuilt,
    )


def begun_step(store: Store, stream: str, step_id: str) -> tuple[str, Begun]:
    """Read what a step was begun with, and in whose stream. Blocks. Raises NotFound."""
    chain = Chain.of(store, stream)
    for place in chain.located([step_id]).get(step_id, []):
        owner, s = chain.lineage.named(place)
        begun = begun_at(store, owner or stream, s)
        if begun is not None:
            return owner or stream, begun
    raise NotFound("Step", step_id)


def begun_at(store: Store, stream: str, s: int) -> Begun | None:
    """Read what the step at an offset was begun with, None if there is none. Blocks."""
    started = _event(store, stream, s)
    if not isinstance(started, StepStarted):
        return None
    queued_at = _place(store, stream, started.run_id)
    queued = None if queued_at is None else _event(store, stream, queued_at)
    if queued_at is None or not isinstance(queued, RunQueued):
        return Begun(s, started, None, None)
    claimed = _claim(store, stream, started, range(queued_at, s))
    own = client_tools(store, stream, started.manifest.tools_at)
    return Begun(s, started, queued.request, claimed, own)


def client_tools(store: Store, stream: str, tools_at: int | None) -> tuple[ToolSchema, ...]:
    """Read the client's tools from the request that lists them; blocks."""
    queued = None if tools_at is None else _event(store, stream, tools_at)
    return (queued.tools or ()) if isinstance(queued, RunQueued) else ()


def _claim(store: Store, stream: str, started: StepStarted, within: range) -> RunClaimed | None:
    """Give the newest claim of the step's epoch among the offsets before it."""
    rows = store.read(stream, after=within.start, upto=within.stop - 1, deltas=False)
    for row in reversed(rows):
        event = revive(row).event if row.topic == CLAIMED else None
        if isinstance(event, RunClaimed) and (event.run_id, event.epoch) == (
            started.run_id,
            started.epoch,
        ):
            return event
    return None


def _place(store: Store, stream: str, identity: str) -> int | None:
    sql = "SELECT version FROM locators WHERE stream = ? AND id = ?"
    rows = store.query(sql, (stream, identity))
    return rows[0]["version"] if rows else None


def _event(store: Store, stream: str, version: int) -> Any:
    rows = store.read(stream, after=version - 1, upto=version, limit=1)
    return revive(rows[0]).event if rows else None
