"""Tells the URL of a run's callback of its end: at least once, signed, with patience.

What is due stands in the read tables, so a restart forgets nothing; a lease keeps two nodes from
telling the same at the same time.
"""

import asyncio
import base64
import hashlib
import hmac
import logging
import time
from dataclasses import dataclass
from typing import Any, Final

import httpx2
import orjson

from app.addresses import PORTS, Forbidden, Target, resolved
from app.execute import Execute, TooMuchContention
from app.leases import Leases
from app.log import Log, StoreUnavailable
from app.mapper import Row, revive
from app.storage.store import Store
from app.watching import watch
from domain.conversation import RecordCallback
from domain.event import Recorded
from projections.answer import ending_of, response_of

AT_ONCE_MAX: Final = 32
PAGE: Final = 100
POLL_S: Final = 1.0
TIMEOUT_S: Final = 10.0
PAUSE_S_MAX: Final = 60.0
ATTEMPTS_MAX: Final = 8
# Longer than one attempt and the pause after it: taken again before each.
LEASE_MS: Final = 90_000
# A run that ends on another node leaves its conversation behind; what is dropped, a poll finds.
PROMISED_MAX: Final = 10_000
# What may pass by itself, beside the server's own errors.
PASSING: Final = frozenset({408, 425, 429})
OK: Final = range(200, 300)
SERVER_ERRORS: Final = range(500, 600)

_DUE: Final = (
    "SELECT conversation_id, run_id, queued_at, finished_at, completed_at, callback_url FROM runs "
    "WHERE callback_due = 1 AND finished_at IS NOT NULL ORDER BY run_id LIMIT ?"
)
# In the bytes of a `run.queued` whose end somebody is to be told of.
_CALLBACK: Final = b'"callback":"'
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt: the status answered, or the error; `final` if no other helps."""

    status_code: int | None = None
    error: str | None = None
    final: bool = True


@dataclass(frozen=True, slots=True)
class Terms:
    """What the operator says of callbacks: how they are signed, and where they may go."""

    secret: bytes | None = None
    private: bool = False
    pause_s: float = 1.0
    attempts_max: int = ATTEMPTS_MAX


class Overtaken(Exception):
    """Another node has the lease by now, and tells."""


class Callbacks:
    """Delivers the callbacks of one log, in the name of one node."""

    def __init__(
        self, log: Log, execute: Execute, leases: Leases, terms: Terms, *, by: str
    ) -> None:
        self._log = log
        self._execute = execute
        self._leases = leases
        self._terms = terms
        self._by = by
        self._due = asyncio.Event()
        # Conversations with runs queued here that are to be told of: others' ends are no news.
        self._promised: dict[str, None] = {}
        self._telling: dict[str, asyncio.Task[None]] = {}
        self._watch: asyncio.Task[None] | None = None
        # Not a client: that one keeps cookies, by address, and logs URLs with their queries.
        # A connection is used once, as hosts of one address have certificates of their own.
        self._transport = httpx2.AsyncHTTPTransport(
            trust_env=False,
            limits=httpx2.Limits(max_connections=AT_ONCE_MAX, max_keepalive_connections=0),
        )
        log.listen(self._noticed)

    async def start(self) -> None:
        """Begin with what was due when the last server stopped."""
        self._due.set()
        self._watch = asyncio.create_task(
            watch(self._due, self._begin, period_s=POLL_S, name="callbacks"), name="callbacks"
        )

    async def stop(self) -> None:
        """Stop telling; what is due stays so."""
        tasks = [*self._telling.values(), *([self._watch] if self._watch else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._transport.aclose()

    def _noticed(self, stream: str, rows: list[Row]) -> None:
        """Look at once if it may matter; what was promised elsewhere is found by the next poll."""
        for row in rows:
            if row.topic == "run.queued" and _CALLBACK in row.state:
                self._promise(stream)
            elif row.topic == "run.finished" and stream in self._promised:
                del self._promised[stream]
                self._due.set()

    def _promise(self, stream: str) -> None:
        self._promised[stream] = None
        if len(self._promised) > PROMISED_MAX:
            del self._promised[next(iter(self._promised))]

    async def _begin(self) -> None:
        """Begin to tell of what is due and not being told of."""
        # Taken before the query: what is told while it runs may still look due in its answer.
        before = {*self._telling}
        for row in await self._log.query(_DUE, (PAGE,)):
            run_id = row["run_id"]
            if run_id not in before and len(self._telling) < AT_ONCE_MAX:
                task = asyncio.create_task(self._tell(row), name=f"callback {run_id}")
                self._telling[run_id] = task
                task.add_done_callback(lambda _, run_id=run_id: self._telling.pop(run_id))

    async def _tell(self, row: dict[str, Any]) -> None:
        run_id = row["run_id"]
        try:
            if await self._leases.take(run_id, LEASE_MS):
                attempts, outcome = await self._delivered(row)
                command = RecordCallback(run_id, attempts, outcome.status_code, outcome.error)
                await self._execute(row["conversation_id"], command, self._by)
                await self._leases.drop(run_id)
        except (StoreUnavailable, TooMuchContention) as error:
            logger.warning("%s: its callback is not recorded: %s", run_id, error)
        except Overtaken:
            logger.info("%s: another node tells of it", run_id)
        except Exception as error:  # noqa: BLE001 - a run's trouble is its own
            _log_failure(run_id, error)

    async def _delivered(self, row: dict[str, Any]) -> tuple[int, Outcome]:
        try:
            return await self._deliver(row)
        except (StoreUnavailable, Overtaken):
            raise
        except Exception as error:  # noqa: BLE001 - the same the next time: not tried for ever
            _log_failure(row["run_id"], error)
            return 0, Outcome(error=type(error).__name__)

    async def _deliver(self, row: dict[str, Any]) -> tuple[int, Outcome]:
        """Try until it is told, or given up; give the number of attempts and the last outcome."""
        body = await self._body(row)
        attempt, pause_s = 1, self._terms.pause_s
        while True:
            outcome = await self._post(row, body, attempt)
            if outcome.final or attempt >= self._terms.attempts_max:
                return attempt, outcome
            await asyncio.sleep(min(pause_s, PAUSE_S_MAX))
            attempt, pause_s = attempt + 1, pause_s * 2
            if not await self._leases.take(row["run_id"], LEASE_MS):
                raise Overtaken

    async def _body(self, row: dict[str, Any]) -> bytes:
        facts = await self._log.in_reader(lambda: _facts(self._log.store, row))
        ending = ending_of(facts, row["run_id"])
        metadata: dict[str, Any] = {"result": response_of(facts, row["run_id"])}
        if ending.error is not None:
            metadata["error"] = ending.error.model_dump()
        return orjson.dumps(
            {
                "run_id": row["run_id"],
                "status": ending.status,
                "completed_at": row["completed_at"],
                "metadata": metadata,
            }
        )

    async def _post(self, row: dict[str, Any], body: bytes, attempt: int) -> Outcome:
        """Post once; a name with several addresses is tried at each in turn."""
        headers = headers_of(row["run_id"], int(time.time()), body, self._terms.secret)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                private = self._terms.private
                target = await resolved(row["callback_url"], private=private, turn=attempt - 1)
                return await self._sent(target, headers, body)
        except Forbidden as error:
            return Outcome(error=f"Forbidden: {error}")
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            # Its name alone: a library's words may hold the URL, and the URL a secret.
            return Outcome(error=type(error).__name__, final=False)

    async def _sent(self, target: Target, headers: dict[str, str], body: bytes) -> Outcome:
        """Post to the address that was checked, under the name that was asked for.

        The response stays unread: its body is of no interest.
        """
        request = httpx2.Request(
            "POST",
            f"{target.scheme}://{_in_url(target.address)}:{target.port}{target.path}",
            headers={**headers, "host": _named(target)},
            content=body,
            extensions={"sni_hostname": target.host},
        )
        answer = await self._transport.handle_async_request(request)
        await answer.aclose()
        return outcome_of(answer.status_code)


def _facts(store: Store, row: dict[str, Any]) -> list[Recorded[Any]]:
    """Read a run's facts in a reader's thread: a long one must not hold the loop."""
    rows = store.read(
        row["conversation_id"], after=row["queued_at"] - 1, upto=row["finished_at"], deltas=False
    )
    return [revive(one) for one in rows]


def _log_failure(run_id: str, error: Exception) -> None:
    """Log an error by its name alone: its words may hold a message's."""
    logger.error("%s: its callback failed: %s", run_id, type(error).__name__)


def _named(target: Target) -> str:
    host = _in_url(target.host)
    return host if target.port == PORTS[target.scheme] else f"{host}:{target.port}"


def _in_url(host: str) -> str:
    return f"[{host.partition('%')[0]}]" if ":" in host else host


def outcome_of(status_code: int) -> Outcome:
    """Tell what an answer means: told, to be tried again, or refused for good."""
    if status_code in OK:
        return Outcome(status_code)
    passing = status_code in PASSING or status_code in SERVER_ERRORS
    return Outcome(status_code, f"the answer was {status_code}", final=not passing)


def headers_of(run_id: str, at: int, body: bytes, secret: bytes | None) -> dict[str, str]:
    """Give the headers, signed if there is a secret, as Standard Webhooks has them.

    The signature is of `id.timestamp.body` (https://www.standardwebhooks.com, version 1).
    """
    headers = {
        "content-type": "application/json",
        "user-agent": "everlog",
        "webhook-id": run_id,
        "webhook-timestamp": str(at),
    }
    if secret is not None:
        signed = hmac.new(secret, f"{run_id}.{at}.".encode() + body, hashlib.sha256).digest()
        headers["webhook-signature"] = f"v1,{base64.b64encode(signed).decode()}"
    return headers
