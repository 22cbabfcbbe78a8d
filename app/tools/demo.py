"""Two tools in the box, to see how tools behave: they touch nothing outside."""

import asyncio
from typing import Any, Final

from app.tools import Call, ToolFailed
from domain.content import ToolSchema

WAIT_S_MAX: Final = 30.0


class DemoCount:
    """Counts words: the same answer however often it is run."""

    idempotent = True
    schema = ToolSchema(
        name="demo_count",
        description="Counts the words of a text. A demonstration.",
        parameters={
            "type": "object",
            "properties": {"text": {"type": "string"}},
            "required": ["text"],
        },
    )

    async def run(self, arguments: dict[str, Any], call: Call) -> str:  # noqa: ARG002 - what tools are given
        """Count."""
        text = arguments.get("text")
        if not isinstance(text, str):
            raise ToolFailed("text: a string is needed")
        return str(len(text.split()))


class DemoWait:
    """Waits: long enough to be cancelled, or to have the server killed in the middle of it."""

    idempotent = False
    schema = ToolSchema(
        name="demo_wait",
        description="Waits for some seconds. A demonstration.",
        parameters={
            "type": "object",
            "properties": {"seconds": {"type": "number", "minimum": 0, "maximum": WAIT_S_MAX}},
            "required": ["seconds"],
        },
    )

    async def run(self, arguments: dict[str, Any], call: Call) -> str:  # noqa: ARG002 - what tools are given
        """Wait."""
        seconds = arguments.get("seconds")
        if not isinstance(seconds, int | float) or not 0 <= seconds <= WAIT_S_MAX:
            raise ToolFailed(f"seconds: a number from 0 to {WAIT_S_MAX:g} is needed")
        await asyncio.sleep(seconds)
        return f"Waited for {seconds:g} s."
