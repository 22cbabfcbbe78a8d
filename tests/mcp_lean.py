"""An MCP server of the older protocol, written out: it starts at once, to be killed in tests.

`python tests/mcp_lean.py DIRECTORY` keeps notes of what it does in DIRECTORY. With `STUBBORN` it does
not end by itself.
"""

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any, Final

NOTES: Final = Path(sys.argv[-1])
HARMLESS: Final = {"idempotentHint": True}
METHOD_NOT_FOUND, INVALID_PARAMS = -32601, -32602
tools: list[dict[str, Any]] = [
    {"name": "slow", "inputSchema": {"type": "object"}},
    {"name": "look", "inputSchema": {"type": "object"}, "annotations": HARMLESS},
    {"name": "grow", "inputSchema": {"type": "object"}},
]
writing = threading.Lock()
cancelled: dict[Any, threading.Event] = {}


def send(**message: Any) -> None:
    with writing:
        print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)  # noqa: T201 - the transport


def call(number: Any, name: str, arguments: dict[str, Any]) -> None:
    if name == "grow":
        tools.append({"name": "more", "inputSchema": {"type": "object"}})
        send(method="notifications/tools/list_changed")
        said = "Grown."
    elif name in ("slow", "look"):
        said = slow(number, arguments["seconds"])
    else:
        send(id=number, error={"code": INVALID_PARAMS, "message": "no such tool"})
        return
    send(id=number, result={"content": [{"type": "text", "text": said}]})


def slow(number: Any, seconds: float) -> str:
    with (NOTES / "slow").open("a") as file:
        file.write(f"{os.getpid()}\n")
    if cancelled[number].wait(seconds):
        (NOTES / "cancelled").touch()
    return f"After {seconds:g} s."


def answer(message: dict[str, Any]) -> None:
    number, params = message.get("id"), message.get("params", {})
    match message.get("method"):
        case "initialize":
            about = {"name": "lean", "version": "1"}
            can = {"tools": {"listChanged": True}}
            version = "2025-06-18"
            send(
                id=number,
                result={"protocolVersion": version, "capabilities": can, "serverInfo": about},
            )
        case "tools/list":
            send(id=number, result={"tools": tools})
        case "tools/call":
            cancelled[number] = threading.Event()
            work: Any = (number, params["name"], params.get("arguments", {}))
            threading.Thread(target=call, args=work, daemon=True).start()
        case "notifications/cancelled":
            cancelled[params["requestId"]].set()
        case _ if number is not None:
            send(id=number, error={"code": METHOD_NOT_FOUND, "message": "not known"})
        case _:
            pass


if __name__ == "__main__":
    for line in sys.stdin:
        answer(json.loads(line))
    if "STUBBORN" in os.environ:
        threading.Event().wait()
