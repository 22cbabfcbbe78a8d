"""`everlog demo`: a conversation, a SIGKILL in mid-reply, and proof that nothing is lost.

Everything goes over HTTP to a real second process, through the real letta-client.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import httpx
import httpx2
from letta_client import APIError, DefaultHttpxClient, Letta
from rich.console import Console
from rich.markup import escape

from app.commands import CommandFailed
from app.commands.process import ServerProcess
from app.commands.proof import Claim, Seen, claims_of, taken_again

MODEL: Final = "demo/steady"
KILL_AFTER_FRAMES: Final = 12
PAGE: Final = 1000


class Demo:
    """The story, step by step."""

    def __init__(self, console: Console, server: ServerProcess) -> None:
        self._console = console
        self._server = server
        self._step = 0
        self._seen = Seen()

    def play(self) -> None:
        """Play it all. Raises CommandFailed if a claim does not hold."""
        self._tell("Start a server on an empty file (a process of its own)")
        self._server.start()
        self._say(f"{self._server.url}, process {self._server.pid}")
        conversation_id = self._begin()
        self._tell("Say hello; words arrive as the model says them")
        self._listen(self._send(conversation_id, "Hello!"))
        self._cut(conversation_id)
        self._resume(conversation_id)
        self._prove(conversation_id)

    # --- the conversation ------------------------------------------------------------------

    def _begin(self) -> str:
        self._tell("Make an agent and a conversation, through letta-client")
        with self._client() as client:
            agent = client.agents.create(
                name="demo",
                model=MODEL,
                memory_blocks=[{"label": "human", "value": "The user likes things that last."}],
            )
            conversation = client.conversations.create(agent_id=agent.id)
        self._say(f"{agent.id}, model {MODEL}, one memory block")
        self._say(conversation.id)
        return conversation.id

    def _send(self, conversation_id: str, words: str) -> Iterable[Any]:
        return self._client().conversations.messages.create(
            conversation_id,
            messages=[{"role": "user", "content": words}],
            streaming=True,
            stream_tokens=True,
            background=True,
        )

    def _listen(self, frames: Iterable[Any], at_most: int | None = None) -> None:
        """Print words as they come, until the end or `at_most` frames."""
        self._console.print("   ", end="")
        for count, frame in enumerate(frames, start=1):
            self._print_words(frame)
            if count == at_most:
                break
        self._console.print()

    def _print_words(self, frame: Any) -> None:
        words = self._seen.take(frame)
        if frame.message_type == "event_message":
            self._console.print(
                "(what was said before is void; the step is taken again)\n   ", end=""
            )
        self._console.print(words, end="", highlight=False, markup=False, soft_wrap=True)

    def _cut(self, conversation_id: str) -> None:
        self._tell("Say something else, and kill the server with SIGKILL in mid-reply")
        stream = self._send(conversation_id, "What happens if the server dies now?")
        self._listen(stream, at_most=KILL_AFTER_FRAMES)
        pid = self._server.pid
        self._server.kill()
        self._drain(stream)
        self._say(f"[red]process {pid} is dead[/red]; last number seen: {self._seen.last}")

    def _drain(self, stream: Iterable[Any]) -> None:
        """Read what was still on its way when the connection broke."""
        try:
            for frame in stream:
                self._print_words(frame)
        except (APIError, httpx.HTTPError):
            self._say("[dim](the connection broke)[/dim]")
        else:
            raise CommandFailed("The reply was over before the server was killed; try again.")

    def _resume(self, conversation_id: str) -> None:
        last = self._seen.last
        self._tell(f"Start it again on the same file, and ask for what came after {last}")
        self._server.start()
        self._say(f"the same address, process {self._server.pid}")
        stream = self._client().conversations.messages.stream(
            conversation_id, run_id=self._seen.run_id, starting_after=last
        )
        self._listen(stream)

    # --- the proof -------------------------------------------------------------------------

    def _prove(self, conversation_id: str) -> None:
        facts = self._facts(conversation_id)
        self._tell("What the log says happened")
        for line in taken_again(facts, self._seen):
            self._say(escape(line))
        self._tell("Is anything missing or doubled?")
        verdict = self._get(f"/v1/conversations/{conversation_id}/verify")
        claims = claims_of(facts, self._seen, self._stored(conversation_id), verdict)
        for claim in claims:
            self._show(claim)
        failed = [claim.words for claim in claims if not claim.holds]
        if failed:
            raise CommandFailed(f"The demo failed. It does not hold that {'; that '.join(failed)}.")
        self._console.print("\n[bold green]Nothing is missing and nothing is doubled.[/bold green]")

    def _facts(self, conversation_id: str) -> list[dict[str, Any]]:
        """Read a conversation's whole log."""
        facts: list[dict[str, Any]] = []
        while True:
            after = facts[-1]["offset"] if facts else 0
            path = f"/v1/conversations/{conversation_id}/events?after={after}&limit={PAGE}"
            page = self._get(path)["events"]
            if not page:
                return facts
            facts += page

    def _stored(self, conversation_id: str) -> dict[str, str]:
        """Give the words of each reply in the message list, by its id."""
        with self._client() as client:
            listed = client.conversations.messages.list(conversation_id, order="asc")
            return {
                message.id: str(message.content)
                for message in listed
                if message.message_type == "assistant_message"
            }

    # --- how it is shown and asked ---------------------------------------------------------

    def _tell(self, text: str) -> None:
        """Begin a step."""
        self._step += 1
        self._console.print(f"\n[bold]{self._step}. {text}[/bold]")

    def _say(self, text: str) -> None:
        self._console.print(f"   {text}", soft_wrap=True)

    def _show(self, claim: Claim) -> None:
        answer = "[green]yes[/green]" if claim.holds else "[red]NO[/red] "
        self._say(f"{answer}  {claim.words}")

    def _client(self) -> Letta:
        # Without the environment: a proxy of the user's leads away from this machine.
        plain = DefaultHttpxClient(trust_env=False)
        return Letta(base_url=self._server.url, api_key="none", max_retries=0, http_client=plain)

    def _get(self, path: str) -> Any:
        with httpx2.Client(base_url=self._server.url, trust_env=False) as client:
            return client.get(path).raise_for_status().json()


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
        except (APIError, httpx.HTTPError, httpx2.HTTPError) as error:
            raise CommandFailed(f"The demo failed: {error}") from error
        finally:
            server.kill()
