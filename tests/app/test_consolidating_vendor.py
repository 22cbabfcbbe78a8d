"""A friendship of two long talks, kept by a model that is reached through its vendor's own SDK."""

import json
import re
from pathlib import Path
from typing import Any, Final

from projections.consolidation import FINISH, RETHINK, STORE
from projections.memories import deserialize
from tests.app.consolidating import finished, memories, sleepy, value
from tests.app.serving import serving
from tests.vendor import Block, Json, Script, Vendor

SPRING: Final = (
    "It is 3 March 2025. I have taken up pottery, on Tuesdays, with my sister Ines.",
    "My first bowl cracked in the kiln; it was glazed in celadon.",
    "By the way: I work as a tram driver, line 4, in Graz.",
    "Our cat is called Biscuit, and he hates the vacuum cleaner.",
)
SUMMER: Final = (
    "It is 21 July 2025. I no longer drive the tram: since June I train the new drivers.",
    "Ines has moved to Porto, so I go to pottery alone, now on Thursdays.",
    "Biscuit has a sister now. We named her Gravy.",
    "Do you remember what happened to my first bowl?",
)
BLOCKS: Final = (
    "Tram driver (line 4, Graz). Pottery on Tuesdays with sister Ines. Cat: Biscuit.",
    "Trains tram drivers since June 2025 (Graz). Pottery on Thursdays, alone: Ines is in Porto. "
    "Cats: Biscuit, Gravy.",
)


def numbered(task: str, words: str) -> int:
    """Find the number of the line that has these words."""
    found = re.search(rf"^\[(\d+)\] user: [^\n]*{re.escape(words)}", task, re.MULTILINE)
    assert found is not None, task
    return int(found[1])


def called(call_id: str, name: str, arguments: Any) -> Block:
    return Block("tool_use", (json.dumps(arguments),), call_id=call_id, name=name)


def text_of(body: Json) -> str:
    parts = [part for message in body["messages"] for part in message["content"]]
    return "\n".join(part["text"] for part in parts if part["type"] == "text")


def keeping(body: Json) -> Script:
    """Store two pieces, then write the block that goes with the season, in two replies."""
    task = text_of(body)
    summer = "21 July" in task
    if len(body["messages"]) > 1:
        return Script(
            (
                called("toolu_b", RETHINK, {"new_memory": BLOCKS[summer]}),
                called("toolu_c", FINISH, {}),
            )
        )
    first, second = ("pottery alone", "Gravy") if summer else ("first bowl", "Biscuit")
    pieces = [
        {
            "start_index": numbered(task, words),
            "end_index": numbered(task, words) + 1,
            "context": f"{'July' if summer else 'March'} 2025: {words}",
        }
        for words in (first, second)
    ]
    return Script((called("toolu_a", STORE, {"chunks": pieces}),))


def script(body: Json) -> Script:
    keeps = any(tool["name"] == STORE for tool in body.get("tools", []))
    return keeping(body) if keeps else Script((Block("text", ("I ", "see.")),))


async def test_two_seasons_are_kept_and_what_has_changed_is_changed(tmp_path: Path) -> None:
    async with (
        Vendor(script) as vendor,
        serving(
            tmp_path / "a.db", anthropic_api_key="made-up", anthropic_base_url=vendor.base_url
        ) as server,
    ):
        agent_id = await server.agent("anthropic/claude-haiku-4-5", **sleepy(len(SPRING)))
        stream = await server.conversation(agent_id)
        for count, season in enumerate((SPRING, SUMMER), start=1):
            for words in season:
                assert (await server.post(stream, words, streaming=False)).status_code == 200
            await finished(server, stream, count)
            assert await value(server, agent_id) == BLOCKS[count - 1]
        kept = await memories(server, agent_id)
        path = f"/v1/agents/{agent_id}/archival-memory/search"
        found = await server.get(path, query="first bowl kiln")
        keepers = [body for body in vendor.bodies if "You keep the memory" in json.dumps(body)]
    assert [one.context for one in kept] == [
        *("March 2025: first bowl", "March 2025: Biscuit"),
        *("July 2025: pottery alone", "July 2025: Gravy"),
    ]
    assert deserialize(found["results"][0]["content"]) == kept[0]
    assert kept[0].messages == (f"user: {SPRING[1]}", "assistant: I see.")
    assert len(keepers) == 4
    assert BLOCKS[0] in text_of(keepers[2])
    assert f"[before] user: {SPRING[3]}" in text_of(keepers[2])
