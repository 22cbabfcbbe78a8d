"""A run's callback is told of its end: at least once, signed, with patience, and not to anybody."""

import asyncio
import base64
import hashlib
import hmac
import logging
import socket
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from app.callbacks import Callbacks, Terms
from app.execute import Execute
from app.leases import Leases
from app.log import Log
from app.mapper import revive
from app.storage.sqlite import SQLiteStore
from app.storage.store import Store
from domain.conversation import FinishRun, QueueRun
from domain.event import Recorded
from domain.run import EndRun, Failure, RunCalledBack, RunRequest
from projections.columns import Scalar
from projections.patches import LEASE_MS
from tests.examples import BODY_HASH, CONVERSATION_ID, RUN_ID, claim, queue, start

GUARD_S = 30


class Receiver:
    """An HTTP server on loopback that answers with what it is told to, the last one for ever."""

    def __init__(self, *statuses: int, host: str = "127.0.0.1") -> None:
        self._statuses = statuses
        self._host = host
        self.answering = asyncio.Event()
        self.answering.set()
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._server.sockets[0].getsockname()[1]}/told?key=secret"

    async def __aenter__(self) -> "Receiver":
        self._server = await asyncio.start_server(self._serve, self._host, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            fields = (line.partition(": ") for line in head[1:] if line)
            headers = {name.lower(): value for name, _, value in fields}
            body = await reader.readexactly(int(headers["content-length"]))
            status = self._statuses[min(len(self.requests), len(self._statuses) - 1)]
            self.requests.append((head[0], headers, body))
            await self.answering.wait()
            away = "location: http://127.0.0.1:1/\r\n" if status == 307 else ""
            writer.write(
                f"HTTP/1.1 {status} Told\r\n{away}set-cookie: a=b\r\ncontent-length: 0\r\n\r\n".encode()
            )
            await writer.drain()
        writer.close()


class Node:
    """What a node has of a server, where only callbacks are at work."""

    def __init__(self, log: Log, leases: Leases, terms: Terms) -> None:
        self.log = log
        self.leases = leases
        self.execute = Execute(log)
        self.callbacks = Callbacks(log, self.execute, leases, terms, by="callbacks:node-1")

    async def run(self, url: str, *, error: Failure | None = None) -> None:
        """Have a run queued, and ended."""
        await self.execute(CONVERSATION_ID, start, "user")
        message = queue().messages
        request = RunRequest(callback=url)
        command = QueueRun(RUN_ID, request, message, "enqueue", BODY_HASH)
        await self.execute(CONVERSATION_ID, command, "user")
        await self.execute(CONVERSATION_ID, claim(), "worker")
        ending = (
            EndRun(RUN_ID, 1, "completed", "end_turn")
            if error is None
            else EndRun(RUN_ID, 1, "failed", "llm_api_error", error)
        )
        await self.execute(CONVERSATION_ID, FinishRun(ending), "worker")

    async def told(self) -> Recorded[RunCalledBack]:
        """Wait until the end of the run was told, or given up."""
        async with asyncio.timeout(GUARD_S):
            while True:
                rows = await self.log.query("SELECT callback_due FROM runs")
                if rows and rows[0]["callback_due"] == 0:
                    break
                await asyncio.sleep(0.01)
        state = await self.log.read(CONVERSATION_ID)
        (fact,) = [revive(row) for row in state if row.topic == "run.called_back"]
        return fact


class TroubledLog(Log):
    """A log whose first query fails, in a way that nobody thought of."""

    queries = 0

    async def query(self, sql: str, params: Sequence[Scalar] = ()) -> list[dict[str, Any]]:
        self.queries += 1
        if self.queries == 1:
            raise RuntimeError("out of threads")
        return await super().query(sql, params)


class LateLog(Log):
    """A log whose query for what is due can be kept from giving the answer it has."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.answering = asyncio.Event()
        self.answering.set()
        self.answers = 0

    async def query(self, sql: str, params: Sequence[Scalar] = ()) -> list[dict[str, Any]]:
        rows = await super().query(sql, params)
        if params:
            self.answers += 1
            await self.answering.wait()
        return rows

    async def answered(self, times: int) -> None:
        """Wait for so many more answers to be had, given or not."""
        wanted = self.answers + times
        async with asyncio.timeout(GUARD_S):
            while self.answers < wanted:
                await asyncio.sleep(0.01)


class LostLeases(Leases):
    """Leases of a node that loses what it has after the first."""

    takes = 0

    async def take(self, work: str, for_ms: int = LEASE_MS) -> bool:
        self.takes += 1
        return self.takes == 1 and await super().take(work, for_ms)


@asynccontextmanager
async def node(
    database: Path,
    *,
    begin: bool = True,
    log_of: Callable[[Store], Log] = Log,
    leases_of: Callable[[Log, str], Leases] = Leases,
    **terms: Any,
) -> AsyncGenerator[Node]:
    async with log_of(SQLiteStore(database)) as log:
        given: dict[str, Any] = {"private": True, "pause_s": 0.001, **terms}
        one = Node(log, leases_of(log, "node-1"), Terms(**given))
        if begin:
            await one.callbacks.start()
        try:
            yield one
        finally:
            await one.callbacks.stop()


async def test_the_end_of_a_run_is_told_once_and_recorded(tmp_path: Path) -> None:
    async with Receiver(200) as receiver, node(tmp_path / "a.db") as one:
        await one.run(receiver.url)
        fact = await one.told()
    ((line, headers, body),) = receiver.requests
    assert line == "POST /told?key=secret HTTP/1.1"
    assert headers["webhook-id"] == RUN_ID
    assert "webhook-signature" not in headers
    told = orjson.loads(body)
    assert (told["run_id"], told["status"]) == (RUN_ID, "completed")
    assert told["completed_at"]
    assert told["metadata"]["result"]["stop_reason"]["stop_reason"] == "end_turn"
    assert (fact.event.attempts, fact.event.status_code, fact.event.error) == (1, 200, None)


async def test_a_failed_run_s_callback_says_why(tmp_path: Path) -> None:
    why = Failure(error_type="llm_timeout", message="It said nothing.")
    async with Receiver(204) as receiver, node(tmp_path / "a.db") as one:
        await one.run(receiver.url, error=why)
        await one.told()
    told = orjson.loads(receiver.requests[0][2])
    assert told["status"] == "failed"
    assert told["metadata"]["error"]["error_type"] == "llm_timeout"


async def test_what_passes_by_itself_is_tried_again(tmp_path: Path) -> None:
    async with Receiver(500, 429, 503, 200) as receiver, node(tmp_path / "a.db") as one:
        await one.run(receiver.url)
        fact = await one.told()
    assert len(receiver.requests) == fact.event.attempts == 4
    assert len({body for _, _, body in receiver.requests}) == 1
    assert fact.event.status_code == 200


async def test_a_refusal_is_final_and_so_is_a_redirect(tmp_path: Path) -> None:
    for status in (404, 410, 307):
        async with Receiver(status) as receiver, node(tmp_path / f"{status}.db") as one:
            await one.run(receiver.url)
            fact = await one.told()
        assert len(receiver.requests) == fact.event.attempts == 1
        assert fact.event.status_code == status
        assert fact.event.error is not None


async def test_it_is_given_up_in_the_end(tmp_path: Path) -> None:
    async with Receiver(500) as receiver, node(tmp_path / "a.db", attempts_max=3) as one:
        await one.run(receiver.url)
        fact = await one.told()
    assert len(receiver.requests) == fact.event.attempts == 3
    assert fact.event.error == "the answer was 500"


async def test_nobody_there_is_tried_again_and_told_without_the_url(tmp_path: Path) -> None:
    async with node(tmp_path / "a.db", attempts_max=2) as one:
        await one.run("http://127.0.0.1:1/told?key=secret")
        fact = await one.told()
    assert (fact.event.attempts, fact.event.error) == (2, "ConnectError")


async def test_a_private_address_is_not_called(tmp_path: Path) -> None:
    async with Receiver(200) as receiver, node(tmp_path / "a.db", private=False) as one:
        await one.run(receiver.url)
        fact = await one.told()
    assert receiver.requests == []
    assert fact.event.error is not None
    assert fact.event.error.startswith("Forbidden: 127.0.0.1")


async def test_a_receiver_can_check_the_signature(tmp_path: Path) -> None:
    async with Receiver(200) as receiver, node(tmp_path / "a.db", secret=b"hush") as one:
        await one.run(receiver.url)
        await one.told()
    ((_, headers, body),) = receiver.requests
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = base64.b64encode(hmac.new(b"hush", signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{digest}"


async def test_what_was_due_when_a_server_stopped_is_told_by_the_next(tmp_path: Path) -> None:
    async with Receiver(200) as receiver:
        async with node(tmp_path / "a.db", begin=False) as one:
            await one.run(receiver.url)
        assert receiver.requests == []
        async with node(tmp_path / "a.db") as one:
            await one.told()
    assert len(receiver.requests) == 1


async def test_what_is_dropped_of_more_promises_than_are_kept_in_mind_is_told_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.callbacks.PROMISED_MAX", 0)
    monkeypatch.setattr("app.callbacks.POLL_S", 0.01)
    async with Receiver(200) as receiver, node(tmp_path / "a.db") as one:
        await one.run(receiver.url)
        fact = await one.told()
    assert fact.event.status_code == 200
    assert len(receiver.requests) == 1


async def test_two_nodes_do_not_tell_the_same(tmp_path: Path) -> None:
    async with Receiver(503, 200) as receiver, node(tmp_path / "a.db") as one:
        other = Callbacks(
            one.log, one.execute, Leases(one.log, "node-2"), Terms(private=True), by="other"
        )
        await other.start()
        await one.run(receiver.url)
        fact = await one.told()
        await other.stop()
    assert len(receiver.requests) == fact.event.attempts == 2


async def test_neither_cookies_nor_logs_carry_anything_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with Receiver(503, 200) as receiver, node(tmp_path / "a.db") as one:
        await one.run(receiver.url)
        await one.told()
    assert len(receiver.requests) == 2
    assert not any("cookie" in headers for _, headers, _ in receiver.requests)
    assert "key=secret" not in caplog.text


async def test_a_host_of_colons_is_named_in_brackets(tmp_path: Path) -> None:
    if not _has_ipv6():
        pytest.skip("no IPv6 on this machine")
    async with Receiver(200, host="::1") as receiver, node(tmp_path / "a.db") as one:
        await one.run(receiver.url)
        await one.told()
        assert receiver.requests[0][1]["host"] == receiver.url.split("/")[2]


def _has_ipv6() -> bool:
    with suppress(OSError), socket.socket(socket.AF_INET6) as one:
        one.bind(("::1", 0))
        return True
    return False


async def test_an_unforeseen_error_does_not_end_the_watch(tmp_path: Path) -> None:
    async with Receiver(200) as receiver, node(tmp_path / "a.db", log_of=TroubledLog) as one:
        await one.run(receiver.url)
        await one.told()
    assert len(receiver.requests) == 1


async def test_what_was_told_while_a_query_ran_is_not_told_again(tmp_path: Path) -> None:
    async with Receiver(200) as receiver, node(tmp_path / "a.db", log_of=LateLog) as one:
        assert isinstance(one.log, LateLog)
        receiver.answering.clear()
        await one.run(receiver.url)
        async with asyncio.timeout(GUARD_S):
            while not receiver.requests:
                await asyncio.sleep(0.01)
        one.log.answering.clear()
        await one.log.answered(1)
        receiver.answering.set()
        await one.told()
        one.log.answering.set()
        await one.log.answered(2)
    assert len(receiver.requests) == 1


async def test_who_has_lost_the_lease_stops_telling(tmp_path: Path) -> None:
    async with Receiver(503) as receiver, node(tmp_path / "a.db", leases_of=LostLeases) as one:
        assert isinstance(one.leases, LostLeases)
        await one.run(receiver.url)
        async with asyncio.timeout(GUARD_S):
            while one.leases.takes < 3:
                await asyncio.sleep(0.01)
        state = await one.log.read(CONVERSATION_ID)
    assert len(receiver.requests) == 1
    assert not [row for row in state if row.topic == "run.called_back"]
