"""`everlog demo`: a conversation, a SIGKILL in mid-reply, and proof that nothing is lost.

Everything goes over HTTP to a real second process, through the real letta-client.
"""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import httpx2
from letta_client import APIError, Letta
from rich.console import Console

from app.commands import CommandFailed
from app.commands.process import ServerProcess

MODEL: Final = "demo/steady"
KILL_AFTER_FRAMES: Final = 12
PAGE: Final = 1000


@dataclass
class Seen:
    """What the client was shown: each frame under its number, each message's words under its id."""

    run_id: str = ""
    frames: dict[int, Any] = field(default_factory=dict[int, Any])
    words: dict[str, str] = field(default_factory=dict[str, str])
    repeated: list[int] = field(default_factory=list[int])

    @property
    def last(self) -> int:
        """The last number seen."""
        return max(self.frames, default=0)

    def take(self, frame: Any) -> str:
        """Keep a frame; give its words."""
        self.run_id = getattr(frame, "run_id", None) or self.run_id
        number = getattr(frame, "seq_id", None)
        if number is None or (frame.message_type == "ping" and number in self.frames):
            return ""
        if number in self.frames:
            self.repeated.append(number)
        self.frames[number] = frame
        if frame.message_type != "assistant_message":
            return ""
        self.words[frame.id] = self.words.get(frame.id, "") + frame.content
        return frame.content


class Demo:
    """The story, step by step."""

    def __init__(self, console: Console, server: ServerProcess) -> None:
        self._console = console
        self._server = server
        self._step = 0
        self._failed: list[str] = []

    def tell(self, text: str) -> None:
        """Begin a step."""
        self._step += 1
        self._console.print(f"\n[bold]{self._step}. {text}[/bold]")

    def check(self, claim: str, holds: bool) -> None:
        """Say whether a claim holds."""
        self._console.print(f"   {'[green]yes[/green]' if holds else '[red]NO[/red] '}  {claim}")
        if not holds:
            self._failed.append(claim)

    def play(self) -> None:
        """Play it all. Raises CommandFailed if a claim does not hold."""
        self.tell("Start a server on an empty file (a process of its own)")
        self._server.start()
        self._console.print(f"   {self._server.url}, process {self._server.pid}")
        conversation_id = self._begin()
        self._first_reply(conversation_id)
        seen = self._cut_reply(conversation_id)
        self._resume(conversation_id, seen)
        self._prove(conversation_id, seen)
        if self._failed:
            raise CommandFailed(f"{len(self._failed)} claims do not hold: {self._failed}")
        self._console.print("\n[bold green]Nothing is missing and nothing is doubled.[/bold green]")

    def _client(self) -> Letta:
        return Letta(base_url=self._server.url, api_key="none", max_retries=0)

    def _begin(self) -> str:
        self.tell("Make an agent and a conversation, through letta-client")
        with self._client() as client:
            agent = client.agents.create(
                name="demo",
                model=MODEL,
                memory_blocks=[{"label": "human", "value": "The user likes things that last."}],
            )
            conversation = client.conversations.create(agent_id=agent.id)
        self._console.print(f"   {agent.id}, model {MODEL}\n   {conversation.id}")
        return conversation.id

    def _first_reply(self, conversation_id: str) -> None:
        self.tell("Say hello; words arrive as the model says them")
        self._listen(self._send(conversation_id, "Hello!"), Seen())

    def _send(self, conversation_id: str, words: str) -> Iterable[Any]:
        return self._client().conversations.messages.create(
            conversation_id,
            messages=[{"role": "user", "content": words}],
            streaming=True,
            stream_tokens=True,
        )

    def _listen(self, frames: Iterable[Any], seen: Seen, at_most: int | None = None) -> None:
        """Print words as they come, until the end or `at_most` frames."""
        self._console.print("   ", end="")
        for count, frame in enumerate(frames, start=1):
            self._console.print(seen.take(frame), end="", highlight=False, markup=False)
            if count == at_most:
                break
        self._console.print()

    def _cut_reply(self, conversation_id: str) -> Seen:
        self.tell("Say something else, and kill the server with SIGKILL in mid-reply")
        seen = Seen()
        stream = self._send(conversation_id, "What happens if the server dies now?")
        self._listen(stream, seen, at_most=KILL_AFTER_FRAMES)
        pid = self._server.pid
        self._server.kill()
        self._drain(stream, seen)
        self._console.print(f"   [red]process {pid} is dead[/red]; last number seen: {seen.last}")
        return seen

    def _drain(self, stream: Iterable[Any], seen: Seen) -> None:
        """Read what was still on its way when the connection broke."""
        try:
            for frame in stream:
                self._console.print(seen.take(frame), end="", highlight=False, markup=False)
        except (APIError, httpx.HTTPError):
            self._console.print("   [dim](the connection broke)[/dim]")

    def _resume(self, conversation_id: str, seen: Seen) -> None:
        self.tell(f"Start it again on the same file, and ask for what came after {seen.last}")
        self._server.start()
        self._console.print(f"   process {self._server.pid}")
        stream = self._client().conversations.messages.stream(
            conversation_id, run_id=seen.run_id, starting_after=seen.last
        )
        self._listen(stream, seen)

    def _prove(self, conversation_id: str, seen: Seen) -> None:
        self.tell("Look it up in the log")
        facts = facts_of(self._server.url, conversation_id)
        self._taken_over(facts)
        by_offset = {fact["offset"]: fact for fact in facts}
        self.check(
            f"the log's {len(facts)} facts are numbered 1 to {len(facts)} without a gap",
            list(by_offset) == list(range(1, len(facts) + 1)),
        )
        self.check(
            f"each of the {len(seen.frames)} frames seen says what the fact of its number says",
            all(agrees(frame, by_offset.get(number)) for number, frame in seen.frames.items()),
        )
        self.check("no frame came twice", not seen.repeated)
        self._compare(conversation_id, seen)
        verdict = _get(self._server.url, f"/v1/conversations/{conversation_id}/verify")
        self.check("the hash chain holds from the first fact to the last", verdict["ok"])

    def _taken_over(self, facts: list[dict[str, Any]]) -> None:
        for fact in facts:
            if fact["type"] == "step.superseded":
                self._console.print(
                    f"   {fact['offset']}: the half reply of step {fact['data']['s']} is marked as "
                    "superseded; the step was taken again from the start"
                )
            if fact["type"] == "run.claimed" and fact["data"]["epoch"] > 1:
                epoch = fact["data"]["epoch"]
                self._console.print(
                    f"   {fact['offset']}: the new process took the run, epoch {epoch}"
                )

    def _compare(self, conversation_id: str, seen: Seen) -> None:
        with self._client() as client:
            newest = next(iter(client.conversations.messages.list(conversation_id, limit=1)))
        joined = seen.words.get(newest.id, "")
        self.check(
            f"the reply joined from the stream is the stored one ({len(joined)} characters)",
            joined != "" and joined == getattr(newest, "content", None),
        )


def agrees(frame: Any, fact: dict[str, Any] | None) -> bool:
    """Tell whether a frame says what a fact says."""
    if fact is None:
        return False
    kind, data = fact["type"], fact["data"]
    match frame.message_type:
        case "assistant_message":
            return kind == "step.delta" and data["x"] == frame.content
        case "ping":
            return kind == "run.queued" and data["run_id"] == frame.run_id
        case _:
            return kind == "step.superseded"


def facts_of(url: str, conversation_id: str) -> list[dict[str, Any]]:
    """Read a conversation's whole log."""
    facts: list[dict[str, Any]] = []
    while True:
        path = f"/v1/conversations/{conversation_id}/events?after={len(facts)}&limit={PAGE}"
        page = _get(url, path)
        facts += page["events"]
        if len(facts) >= page["head"] or not page["events"]:
            return facts


def _get(url: str, path: str) -> Any:
    return httpx2.get(f"{url}{path}").raise_for_status().json()


def run() -> None:
    """Play the demo. Raises CommandFailed if something does not hold."""
    console = Console(highlight=False)
    console.print(
        "[bold]Everlog demo[/bold]: a real server, the real letta-client, a model in the box."
    )
    with tempfile.TemporaryDirectory(prefix="everlog-demo-") as folder:
        server = ServerProcess(Path(folder) / "demo.db")
        try:
            Demo(console, server).play()
        finally:
            server.kill()
