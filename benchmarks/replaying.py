"""Plays a conversation through letta-client over connections that break, and compares all bytes.

Each reply is cut at random places, also in the middle of a frame, and resumed after the last number
seen. What was heard in pieces must then be what an uninterrupted replay says, what the message list
holds, and what the model was told to say.
"""

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

import httpx
from letta_client import Letta, Stream

from benchmarks.cutting import FRAME_END, Cut, Wire
from benchmarks.speaking import Speaker, speaking
from tests.whole.server import serving

MODEL: Final = "anthropic/claude-haiku-4-5"
CUTS_MAX: Final = 4
FRAMES_BEFORE_CUT_MAX: Final = 8
BYTES_INTO_FRAME_MAX: Final = 400
PAGE_MESSAGES: Final = 37
TIMEOUT_S: Final = 30.0
# Every token a frame, as far as the disk allows: more places to cut at.
PACE_MS: Final = "0"

Way = Literal["run", "otid", "runs"]
WAYS: Final[tuple[Way, ...]] = ("run", "otid", "runs")


@dataclass(frozen=True, slots=True)
class Exchange:
    """What the user sends at once and what the model answers, a text for each message."""

    asked: tuple[str, ...]
    replies: tuple[str, ...]


class Message(NamedTuple):
    """An assistant's message, put together from its frames or taken from the list."""

    message_id: str
    otid: str
    text: str


class Frame(NamedTuple):
    """A frame as letta-client gives it."""

    kind: str
    seq_id: int | None
    run_id: str | None
    message_id: str
    otid: str
    text: str


@dataclass(frozen=True, slots=True)
class Part:
    """What came over one connection, from after a number on, until its end or a cut."""

    after: int
    frames: list[Frame]
    raw: bytes
    cut: bool

    @property
    def last(self) -> int:
        """The last number seen: where to resume."""
        return max(self.after, *(frame.seq_id or 0 for frame in self.frames), 0)


@dataclass
class Tally:
    """What was done and what was found to differ."""

    replies: int = 0
    cuts: int = 0
    cuts_in_frames: int = 0
    frames: int = 0
    bytes_compared: int = 0
    seconds: float = 0.0
    mismatches: list[str] = field(default_factory=list[str])

    def compare(self, what: str, found: bytes, wanted: bytes) -> None:
        """Compare bytes, and remember what differs by its lengths and first place."""
        self.bytes_compared += len(wanted)
        if found != wanted:
            same = _same(found, wanted)
            lengths = f"{len(found)} bytes for {len(wanted)}"
            self.mismatches.append(f"{what}: {lengths}, different from byte {same} on")

    def check(self, what: str, *, holds: bool) -> None:
        """Remember what does not hold."""
        if not holds:
            self.mismatches.append(what)


def play(exchanges: Sequence[Exchange], database: Path, seed: int) -> Tally:
    """Play a conversation against a server of its own on a new file, and check all of it."""
    with (
        speaking(seed) as speaker,
        serving(
            database,
            ANTHROPIC_API_KEY="sk-made-up",
            ANTHROPIC_BASE_URL=speaker.base_url,
            EVERLOG_DELTA_PACE_MS=PACE_MS,
        ) as server,
        Wire() as wire,
        httpx.Client(transport=wire, timeout=TIMEOUT_S) as http,
    ):
        client = Letta(base_url=server.base_url, http_client=http, max_retries=0, api_key="none")
        began = perf_counter()
        player = Player(client, wire, speaker, seed)
        player.play(exchanges)
        player.tally.seconds = perf_counter() - began
        return player.tally


class Player:
    """The user: sends, listens over bad connections, and compares."""

    def __init__(self, client: Letta, wire: Wire, speaker: Speaker, seed: int) -> None:
        self._client = client
        self._wire = wire
        self._speaker = speaker
        self._random = random.Random(seed)
        self._conversation_id = ""
        self._heard: list[Message] = []
        self.tally = Tally()

    def play(self, exchanges: Sequence[Exchange]) -> None:
        """Go through a conversation, then compare the list of its messages."""
        agent = self._client.agents.create(name="played", model=MODEL, include_base_tools=False)
        self._conversation_id = self._client.conversations.create(agent_id=agent.id).id
        for exchange in exchanges:
            self._exchange(exchange)
        self._check_history(exchanges)

    # --- one reply ------------------------------------------------------------------------

    def _exchange(self, exchange: Exchange) -> None:
        self._speaker.say(exchange.replies)
        otid = self._new_otid()
        parts = [self._ask(exchange.asked, otid)]
        while parts[-1].cut:
            parts.append(self._resume(parts, otid))
        self.tally.replies += 1
        self._check_reply(exchange, parts)

    def _new_otid(self) -> str:
        return str(UUID(int=self._random.getrandbits(128), version=4))

    def _ask(self, asked: Sequence[str], otid: str) -> Part:
        otids = [*(self._new_otid() for _ in asked[1:]), otid]
        messages: Any = [
            {"role": "user", "content": text, "otid": one}
            for text, one in zip(asked, otids, strict=True)
        ]
        self._wire.cut_next(self._next_cut(cuts=0))
        stream = self._client.conversations.messages.create(
            self._conversation_id,
            messages=messages,
            streaming=True,
            stream_tokens=True,
            background=self.tally.replies % 2 == 1,
        )
        return self._listen(stream, after=0)

    def _resume(self, parts: Sequence[Part], otid: str) -> Part:
        after = parts[-1].last
        known = [frame.run_id for part in parts for frame in part.frames if frame.run_id]
        way = self._random.choice(WAYS) if known else "otid"
        self._wire.cut_next(self._next_cut(cuts=len(parts)))
        messages = self._client.conversations.messages
        match way:
            case "run":
                stream = messages.stream(
                    self._conversation_id, run_id=known[0], starting_after=after
                )
            case "otid":
                stream = messages.stream(self._conversation_id, otid=otid, starting_after=after)
            case "runs":
                stream = self._client.runs.messages.stream(known[0] or "", starting_after=after)
        return self._listen(stream, after)

    def _next_cut(self, cuts: int) -> Cut | None:
        """Choose where the next connection breaks; the more often it did, the rarer."""
        if self._random.randrange(CUTS_MAX + 1) < cuts:
            return None
        into = self._random.randrange(1, BYTES_INTO_FRAME_MAX)
        frames = self._random.randrange(FRAMES_BEFORE_CUT_MAX)
        return Cut(frames, self._random.choice((0, into)))

    def _listen(self, stream: Stream[Any], after: int) -> Part:
        frames: list[Frame] = []
        cut = False
        try:
            frames.extend(map(_frame_of, stream))
        except httpx.ReadError:
            cut = True
            self.tally.cuts += 1
        raw = bytes(self._wire.received)
        self.tally.frames += len(frames)
        self.tally.cuts_in_frames += bool(cut and raw and not raw.endswith(FRAME_END))
        return Part(after, frames, raw, cut)

    # --- checks ---------------------------------------------------------------------------

    def _check_reply(self, exchange: Exchange, parts: Sequence[Part]) -> None:
        run_id = next(frame.run_id for part in parts for frame in part.frames if frame.run_id)
        replay = self._listen(
            self._client.conversations.messages.stream(
                self._conversation_id, run_id=run_id, starting_after=0
            ),
            after=0,
        )
        where = f"reply {self.tally.replies}"
        for number, part in enumerate(parts, start=1):
            self._check_tail(f"{where}, connection {number} after {part.after}", part, replay)
        frames = joined(parts)
        seqs = [frame.seq_id for frame in frames if frame.seq_id is not None]
        self.tally.check(f"{where}: numbers repeat or go back", holds=_rising(seqs))
        self.tally.check(f"{where}: other frames in pieces", holds=frames == replay.frames)
        for kind, found in (("pieces", frames), ("replay", replay.frames)):
            texts = [message.text for message in spoken(found)]
            self._compare_texts(f"{where}, in {kind}", texts, exchange.replies)
        self._heard += spoken(frames)

    def _check_tail(self, what: str, part: Part, replay: Part) -> None:
        """Compare what one connection brought, to the byte, with that place of the replay."""
        tail = tail_after(replay.raw, part.after)
        self.tally.compare(what, part.raw, tail[: len(part.raw)] if part.cut else tail)

    def _compare_texts(self, what: str, found: Sequence[str], wanted: Sequence[str]) -> None:
        counts = f"{what}: {len(found)} texts for {len(wanted)}"
        self.tally.check(counts, holds=len(found) == len(wanted))
        for number, (one, other) in enumerate(zip(found, wanted, strict=False)):
            self.tally.compare(f"{what}, text {number}", one.encode(), other.encode())

    def _check_history(self, exchanges: Sequence[Exchange]) -> None:
        oldest_first = [item.to_dict() for item in self._listed("asc")]
        newest_first = [item.to_dict() for item in self._listed("desc")]
        walked = [item.to_dict() for item in self._walked_back()]
        self.tally.check("asc is not desc reversed", holds=oldest_first == newest_first[::-1])
        self.tally.check("`before` walks elsewhere", holds=walked == newest_first)
        asked = [one["content"] for one in oldest_first if one["message_type"] == "user_message"]
        said = [
            Message(one["id"], one["otid"], one["content"])
            for one in oldest_first
            if one["message_type"] == "assistant_message"
        ]
        self._compare_texts(
            "listed, user", asked, [text for one in exchanges for text in one.asked]
        )
        replies = [text for one in exchanges for text in one.replies]
        self._compare_texts("listed, assistant", [one.text for one in said], replies)
        self.tally.check("listed under other ids than heard", holds=said == self._heard)

    def _listed(self, order: Literal["asc", "desc"]) -> Iterator[Any]:
        """Walk the list as letta-client does by itself."""
        messages = self._client.conversations.messages
        yield from messages.list(self._conversation_id, order=order, limit=PAGE_MESSAGES)

    def _walked_back(self) -> Iterator[Any]:
        """Walk to older messages by hand, as letta-code does."""
        messages = self._client.conversations.messages
        page = messages.list(self._conversation_id, order="desc", limit=PAGE_MESSAGES)
        while page.items:
            yield from page.items
            page = messages.list(
                self._conversation_id,
                order="desc",
                limit=PAGE_MESSAGES,
                before=page.items[-1].id,
            )


def _frame_of(frame: Any) -> Frame:
    """Take from a frame what is compared; a ping has no otid, a stop reason no number."""
    shown: dict[str, Any] = frame.to_dict()
    return Frame(
        shown["message_type"],
        shown.get("seq_id"),
        shown.get("run_id"),
        shown.get("id") or "",
        shown.get("otid") or "",
        shown.get("content") or "",
    )


def joined(parts: Sequence[Part]) -> list[Frame]:
    """Put a reply's pieces together: unnumbered frames count where the stream came to its end."""
    return [
        frame for part in parts for frame in part.frames if frame.seq_id is not None or not part.cut
    ]


def spoken(frames: Iterable[Frame]) -> list[Message]:
    """Put the assistant's messages together from their frames."""
    texts: dict[tuple[str, str], list[str]] = {}
    for frame in frames:
        if frame.kind == "assistant_message":
            texts.setdefault((frame.message_id, frame.otid), []).append(frame.text)
    return [Message(*key, "".join(pieces)) for key, pieces in texts.items()]


def tail_after(raw: bytes, seq_id: int) -> bytes:
    """Give what a stream sends after the frame of a number; all of it after 0."""
    start = 0
    while start < len(raw):
        end = raw.index(FRAME_END, start) + len(FRAME_END)
        number = _number_of(raw[start:end])
        if number is None or number > seq_id:
            break
        start = end
    return raw[start:]


def _number_of(frame: bytes) -> int | None:
    data = frame.strip().removeprefix(b"data: ")
    return json.loads(data).get("seq_id") if data.startswith(b"{") else None


def _rising(numbers: Sequence[int]) -> bool:
    return all(one < other for one, other in pairwise(numbers))


def _same(one: bytes, other: bytes) -> int:
    """Count the bytes from the beginning that are equal."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
