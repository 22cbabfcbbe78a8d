"""A server whose model is a scripted vendor, and ways to ask whether the vendor got what is shown."""

import asyncio
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from letta_client import Letta

from projections.request import INTERRUPTED
from tests.vendor import Vendor

MODEL: Final = "anthropic/claude-haiku-4-5"
# How the line of a prompt begins that says when it was compiled.
MOMENT: Final = "- Memory was last put together at "
Json: TypeAlias = dict[str, Any]
# `messages` is the agent's own routes, where it has any.
Way: TypeAlias = Literal["conversation", "default", "agent", "messages"]
Mode: TypeAlias = Literal["document", "stream", "tokens", "background"]
# What is said: by whom, what kind of thing it is, and the words.
Said: TypeAlias = tuple[str, str, str]


@contextmanager
def vending() -> Generator[Vendor]:
    """Run a vendor in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    vendor = Vendor()
    try:
        asyncio.run_coroutine_threadsafe(vendor.__aenter__(), loop).result(30)
        yield vendor
        asyncio.run_coroutine_threadsafe(vendor.__aexit__(), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


@dataclass(frozen=True, slots=True)
class Talk:
    """An agent's conversation, addressed in one of the ways that there are."""

    client: Letta
    vendor: Vendor
    agent_id: str
    conversation_id: str
    owner: Json
    direct: bool = False

    @property
    def root(self) -> str:
        """Where its own routes are."""
        return f"/v1/conversations/{self.conversation_id}"

    @property
    def own(self) -> bool:
        """Whether it is the agent's own conversation."""
        return not self.conversation_id.startswith("conv-")

    def get(self, path: str, **params: Any) -> Any:
        """Ask a route that the client has no method for."""
        return self.client.get(path, cast_to=object, options={"params": params})

    def say(self, words: str, mode: Mode = "document", **more: Any) -> None:
        """Say something, and have it answered to the end."""
        body: Json = {"messages": [{"role": "user", "content": words}], **MODES[mode], **more}
        messages: Any = self.client.agents.messages
        if not self.direct:
            create: Any = self.client.conversations.messages.create
            _hear(create(self.conversation_id, **self.owner, **body))
        elif mode == "background":
            run = messages.create_async(self.agent_id, messages=body["messages"])
            _hear(self.client.runs.messages.stream(run.id))
        else:
            _hear(messages.create(self.agent_id, **body))

    def listed(self, **query: Any) -> list[Any]:
        """List all that was ever said, page by page."""
        asked = {"order": "asc", **query}
        if self.direct:
            found: Any = self.client.agents.messages.list
            return list(found(self.agent_id, conversation_id="default", **asked))
        found = self.client.conversations.messages.list
        return list(found(self.conversation_id, **self.owner, **asked))

    def window(self, **query: Any) -> Any:
        """Show its window; None while it has not begun."""
        if self.own and not self.get("/v1/runs/", agent_id=self.agent_id):
            return None
        return self.get(f"{self.root}/window", **self.owner, **query)

    def context(self) -> Any:
        """Show what fills it."""
        where = "default" if self.own else self.conversation_id
        return self.get(f"/v1/agents/{self.agent_id}/context", conversation_id=where)

    def tells(self, words: str = "[[text:Aye.]]", **more: Any) -> Json:
        """Look at all that is shown, say something, check that its model is sent that; give it."""
        self.check_shown()
        before, prompt, context = self.window(), self.listed()[0].content, self.context()
        count = len(self.vendor.replied)
        self.say(words, **more)
        sent = self.vendor.replied[count].body
        if before is None:
            assert timeless(prompt_of(sent)) == timeless(prompt)
        else:
            assert prompt_of(sent) == prompt
        shown = [] if before is None else said_in(before["messages"])
        assert sent_in(sent) == [*shown, ("user", "text", words)]
        offered = [one["name"] for one in context["functions_definitions"]]
        mine = [one["name"] for one in more.get("client_tools", ())]
        assert sorted(tools_of(sent)) == sorted([*offered, *mine])
        self.check_requests(count)
        return sent

    def check_shown(self) -> None:
        """Check that the routes which show a window show one and the same."""
        window, context, listed = self.window(), self.context(), self.listed()
        agent = self.client.agents.retrieve(self.agent_id)
        prompt = listed[0]
        assert prompt.message_type == "system_message"
        assert timeless(context["core_memory"]) in timeless(prompt.content)
        assert context["num_messages"] == 1 + len(context["messages"])
        if window is None:
            assert context["messages"] == []
            assert agent.message_ids == [prompt.id]
            return
        assert window["system"]["text"] == prompt.content
        assert window["messages"] == context["messages"]
        ids = [prompt.id, *(one["message_id"] for one in window["messages"])]
        held = agent.message_ids
        if not self.own:
            held = self.client.conversations.retrieve(self.conversation_id).in_context_message_ids
        assert held == list(dict.fromkeys(ids))
        check_listed(window["messages"], listed)

    def check_requests(self, count: int) -> None:
        """Check that the requests since the `count`th are rebuilt as they were sent."""
        runs = self.get("/v1/runs/", agent_id=self.agent_id, limit=1)
        steps = self.client.runs.steps.list(runs[0]["id"], order="asc").items
        assert len(steps) == len(self.vendor.replied) - count
        for step, received in zip(steps, self.vendor.replied[count:], strict=True):
            found = self.get(f"{self.root}/steps/{step.id}/request", **self.owner)
            assert found["matches"] is True
            assert found["wire"]["body"] == received.raw.decode()


def _hear(answer: Any) -> None:
    """Take an answer in to its end; of a document that comes as a stream the client makes nothing."""
    frames = answer.messages if hasattr(answer, "messages") else list(answer)
    assert "error_message" not in [one.message_type for one in frames]


MODES: Final[dict[Mode, Json]] = {
    "document": {"streaming": False},
    "stream": {"streaming": True},
    "tokens": {"streaming": True, "stream_tokens": True},
    "background": {"streaming": True, "background": True},
}


def talk_of(client: Letta, vendor: Vendor, way: Way, **settings: Any) -> Talk:
    """Make an agent over HTTP, and a conversation with it if that is the way."""
    agent_id = client.agents.create(model=MODEL, **settings).id
    if way == "messages":
        return Talk(client, vendor, agent_id, agent_id, {}, direct=True)
    if way == "default":
        return Talk(client, vendor, agent_id, "default", {"agent_id": agent_id})
    if way == "agent":
        return Talk(client, vendor, agent_id, agent_id, {})
    return Talk(client, vendor, agent_id, client.conversations.create(agent_id=agent_id).id, {})


def timeless(prompt: str) -> str:
    """Leave out when a prompt was compiled: before a conversation begins, that is when one looks."""
    return "\n".join(line for line in prompt.splitlines() if MOMENT not in line)


def prompt_of(body: Json) -> str:
    """Give the system prompt that a vendor received."""
    system: Any = body.get("system", "")
    return system if isinstance(system, str) else "".join(one["text"] for one in system)


def tools_of(body: Json) -> list[str]:
    """Name the tools that a vendor received."""
    return [one["name"] for one in body.get("tools", ())]


def sent_in(body: Json) -> list[Said]:
    """Give what was said in a request, one line for each part."""
    return [
        line
        for message in body["messages"]
        for part in _parts(message["content"])
        for line in _sent(message["role"], part)
    ]


def _parts(content: Any) -> list[Json]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _sent(role: str, part: Json) -> Iterable[Said]:
    match part["type"]:
        case "text":
            yield role, "text", part["text"]
        case "tool_use":
            yield role, "call", part["id"]
        case "tool_result":
            words = "".join(one["text"] for one in _parts(part["content"]))
            yield "tool", "return", f"{part['tool_use_id']}: {words}"
        case other:
            yield role, other, ""


def said_in(messages: list[Json]) -> list[Said]:
    """Give what a window's messages are told as, one line for each part."""
    return [line for one in messages for line in (*_lines_of(one), *_broken_off(one))]


def _lines_of(message: Json) -> Iterable[Said]:
    return (line for part in message["parts"] for line in _shown(message, part))


def _broken_off(message: Json) -> Iterable[Said]:
    """Give the note that a model is told beside what a broken-off reply had said."""
    if message.get("interrupted"):
        yield message["role"], "text", INTERRUPTED


def _shown(message: Json, part: Json) -> Iterable[Said]:
    role = "user" if message["role"] == "summary" else message["role"]
    match part["type"]:
        case "text":
            yield role, "text", part["text"]
        case "tool_call":
            yield role, "call", part["id"]
        case "tool_result":
            yield "tool", "return", f"{part['tool_call_id']}: {part['content']}"
        case other:
            yield role, other, ""


def check_listed(messages: list[Json], listed: list[Any]) -> None:
    """Check that lists have every text of a window, under the id and in the order it has there."""
    texts = [(one["message_id"], line[2]) for one in messages for line in _texts(one)]
    kept = [(one.id, one.content) for one in listed if one.message_type in LISTED]
    places = [kept.index(one) for one in texts]
    assert len(set(places)) == len(places)


LISTED: Final = ("user_message", "assistant_message")


def _texts(message: Json) -> Iterable[Said]:
    return (line for line in _lines_of(message) if line[1] == "text")
