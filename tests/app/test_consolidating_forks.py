"""What a fork inherited is consolidated once: by the conversation in which it was said."""

from pathlib import Path

from tests.app.consolidating import Cast, consolidated, keeping, memories, talked
from tests.app.scripts import told
from tests.app.serving import serving


async def test_a_fork_and_its_parent_store_what_each_has_said_and_nothing_twice(
    tmp_path: Path,
) -> None:
    cast = Cast(keeping("Tea."), keeping("Tea, cats."), keeping("Tea, cats, dogs."))
    async with serving(tmp_path / "a.db", cast) as server:
        agent_id, stream = await talked(server, "I like tea.")
        made = await server.http.post(f"/v1/conversations/{stream}/fork")
        fork_id = made.json()["id"]
        refused = await server.http.post(
            f"/v1/agents/{agent_id}/consolidate", json={"conversation_id": fork_id}
        )
        await server.post(fork_id, "And cats.")
        first = await consolidated(server, agent_id, conversation_id=fork_id)
        second = await consolidated(server, agent_id, conversation_id=stream)
        kept = await memories(server, agent_id)
    assert refused.status_code == 400
    assert (first["status"], second["status"]) == ("applied", "applied")
    said = [line for one in kept for line in one.messages if line.startswith("user")]
    assert sorted(said) == ["user: And cats.", "user: I like tea."]
    ((_, words),) = told(cast.keeper.requests[0])
    assert "I like tea." not in words
