"""Agents whose memory is consolidated: what their models say, and what comes of it."""

import asyncio
import json
from typing import Any

from app.memory.archival import Page
from app.providers import Reply
from domain.content import OutputPart, Text, ToolCall
from domain.conversation import ConsolidationFinished, ConsolidationQueued
from domain.sleeptime import Sleeptime
from projections.consolidation import FINISH, RETHINK, STORE
from projections.memories import deserialize
from projections.request import ModelRequest
from tests.app.scripts import saying
from tests.app.serving import Said, Scripted, Server

NAMES = (STORE, RETHINK, FINISH)


def working(*calls: tuple[str, Any], words: str = "") -> Any:
    """Make one reply with calls."""

    async def script(request: ModelRequest) -> Said:
        parts: list[OutputPart] = [Text(text=words)] if words else []
        for number, (name, arguments) in enumerate(calls):
            spelled = arguments if isinstance(arguments, str) else json.dumps(arguments)
            call_id = f"call-{len(request.turns)}-{number}"
            parts.append(ToolCall(id=call_id, name=name, arguments=spelled))
        yield Reply(tuple(parts), finish_reason="tool_call")

    return script


def chunk(first: int, last: int, context: str = "About tea.") -> dict[str, Any]:
    return {"start_index": first, "end_index": last, "context": context}


def storing(*chunks: Any) -> tuple[str, Any]:
    return STORE, {"chunks": list(chunks)}


def rethinking(text: str) -> tuple[str, Any]:
    return RETHINK, {"new_memory": text}


class Cast(Scripted):
    """An agent that chats, and the model that keeps its memory, told apart by their tools."""

    def __init__(self, *keeping: Any, chatting: Any = None) -> None:
        super().__init__()
        self.agent = Scripted(chatting or saying("Aye."))
        self.keeper = Scripted(*keeping)

    async def complete(self, request: ModelRequest) -> Said:
        keeps = {tool.name for tool in request.tools} >= set(NAMES)
        async for said in (self.keeper if keeps else self.agent).complete(request):
            yield said


async def consolidated(server: Server, agent_id: str, **body: Any) -> dict[str, Any]:
    """Have a consolidation done; give it as it is shown when it is over."""
    answer = await server.http.post(f"/v1/agents/{agent_id}/consolidate", json=body)
    assert answer.status_code == 200, answer.text
    return await over(server, agent_id, answer.json()["consolidation_id"])


async def over(server: Server, agent_id: str, consolidation_id: str) -> dict[str, Any]:
    path = f"/v1/agents/{agent_id}/consolidations/{consolidation_id}"
    async with asyncio.timeout(20):
        while (shown := await server.get(path))["status"] == "running":
            await asyncio.sleep(0.02)
    return shown


async def memories(server: Server, agent_id: str) -> list[Any]:
    page = Page(limit=100)
    return [deserialize(one.text) for one in await server.services.archival.list(agent_id, page)]


async def talked(server: Server, *words: str, **settings: Any) -> tuple[str, str]:
    agent_id = await server.agent("script/x", **settings)
    stream = await server.conversation(agent_id)
    for one in words:
        assert (await server.post(stream, one, streaming=False)).status_code == 200
    return agent_id, stream


async def value(server: Server, agent_id: str, label: str = "human") -> str:
    return (await server.get(f"/v1/agents/{agent_id}/core-memory/blocks/{label}"))["value"]


def keeping(text: str) -> Any:
    return working(storing(chunk(0, 1)), rethinking(text), (FINISH, {}))


def sleepy(frequency: int = 2, **more: Any) -> dict[str, Any]:
    return {"enable_sleeptime": True, "sleeptime": Sleeptime(frequency=frequency, **more)}


async def finished(server: Server, stream: str, count: int) -> list[ConsolidationFinished]:
    """Wait until so many consolidations of a conversation are over."""

    def ends(facts: list[Any]) -> list[ConsolidationFinished]:
        return [one.event for one in facts if isinstance(one.event, ConsolidationFinished)]

    return ends(await server.until(stream, lambda facts: len(ends(facts)) >= count))


async def queued(server: Server, stream: str) -> list[ConsolidationQueued]:
    return [one for one in await server.events(stream) if isinstance(one, ConsolidationQueued)]
