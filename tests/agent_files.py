"""Files of agents as another server writes them, put together for tests."""

from typing import Any, Final, TypeAlias

import orjson

Json: TypeAlias = dict[str, Any]

BLOCK: Final[Json] = {"id": "block-0", "label": "human", "value": "Keeps bees.", "limit": 2000}


def message(n: int, role: str, text: str | None = None, **given: Any) -> Json:
    """Give message number `n`, said in second `n` of a minute long ago."""
    content = [] if text is None else [{"type": "text", "text": text, "signature": None}]
    return {
        "id": f"message-{n}",
        "role": role,
        "content": content,
        "otid": None,
        "tool_calls": None,
        "tool_returns": [],
        "approvals": [],
        "created_at": f"2025-03-01T09:{n // 60:02}:{n % 60:02}+00:00",
        **given,
    }


def prompt() -> Json:
    """Give the compiled system prompt of elsewhere, message 0."""
    return message(0, "system", "You are a guide. AGENT_ID: agent-of-elsewhere")


def call(key: str, name: str = "weather", arguments: str = "{}") -> Json:
    """Give a tool call."""
    return {"id": key, "type": "function", "function": {"name": name, "arguments": arguments}}


def returned(key: str, words: Any = "18 C", **given: Any) -> Json:
    """Give what a call came to."""
    return {"tool_call_id": key, "status": "success", "func_response": words, **given}


def ids(*numbers: int) -> list[str]:
    """Name messages."""
    return [f"message-{n}" for n in numbers]


def agent(messages: list[Json] | None = None, **given: Any) -> Json:
    """Give an agent; all its messages are in its window unless it is said otherwise."""
    said = [prompt(), message(1, "user", "Hello!"), message(2, "assistant", "Hello to you.")]
    said = said if messages is None else messages
    return {
        "id": "agent-0",
        "name": "guide",
        "system": "You are a guide.",
        "agent_type": "letta_v1_agent",
        "model": "demo/echo",
        "block_ids": ["block-0"],
        "tool_ids": [],
        "messages": said,
        "in_context_message_ids": [one["id"] for one in said],
        **given,
    }


def file(*agents: Json, **given: Any) -> Json:
    """Give a file."""
    return {
        "agents": list(agents) or [agent()],
        "groups": [],
        "blocks": [BLOCK],
        "files": [],
        "sources": [],
        "tools": [],
        "mcp_servers": [],
        "metadata": {},
        "created_at": "2025-03-01T10:00:00+00:00",
        **given,
    }


def as_bytes(value: Any) -> bytes:
    """Give a file as it is sent."""
    return orjson.dumps(value)


def without_names(exported: Json) -> Json:
    """Leave out of an exported file what differs with every import.

    Those are otids that follow from ids, prompts, and when the file and its summaries were written.
    """
    value = orjson.loads(orjson.dumps(exported))
    value["created_at"] = None
    for one in value["agents"]:
        for told in (one, *one["everlog"].get("conversations", [])):
            for said in told["messages"]:
                said["otid"] = None if said["role"] != "user" else said["otid"]
                if said["id"] == told["in_context_message_ids"][0]:
                    said.update(content=None, created_at=None)
                if "system_alert" in str(said["content"]):
                    said.update(otid=None, created_at=None)
    return value
