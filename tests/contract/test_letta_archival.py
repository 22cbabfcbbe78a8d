"""letta-client 1.12.1, unchanged: archival memory."""

import letta_client
import pytest
from letta_client import Letta


def test_passages_are_created_listed_searched_and_deleted(client: Letta, agent_id: str) -> None:
    (made,) = client.agents.passages.create(
        agent_id, text="The lantern is in the cellar.", tags=["house"]
    )
    client.agents.passages.create(
        agent_id, text="Coal comes on Mondays.", created_at="2026-01-02T03:04:05Z"
    )
    listed = client.agents.passages.list(agent_id)
    assert [one.text[:4] for one in listed] == ["Coal", "The "]
    assert client.agents.passages.list(agent_id, after=listed[0].id, limit=5) == [listed[1]]
    assert client.agents.passages.list(agent_id, search="coal", ascending=False) == [listed[0]]

    found = client.agents.passages.search(
        agent_id, query="where are lanterns?", tags=["house", "x"], top_k=3
    )
    assert (found.count, found.results[0].id, found.results[0].tags) == (1, made.id, ["house"])
    none = client.agents.passages.search(
        agent_id, query="lantern", tags=["house", "x"], tag_match_mode="all"
    )
    assert (none.count, none.results) == (0, [])

    assert made.id is not None
    answer = client.agents.passages.delete(made.id, agent_id=agent_id)
    assert answer == {"message": f"Passage id={made.id} successfully deleted"}
    assert client.agents.passages.list(agent_id) == [listed[0]]
    with pytest.raises(letta_client.NotFoundError):
        client.agents.passages.delete(made.id, agent_id=agent_id)


def test_passages_of_an_agent_are_searched_with_scores(client: Letta, agent_id: str) -> None:
    client.agents.passages.create(agent_id, text="The lantern is in the cellar.")
    (item,) = client.passages.search(agent_id=agent_id, query="cellar")
    assert item.passage.text == "The lantern is in the cellar."
    assert item.score > 0


def test_bad_passages_are_refused_as_the_client_expects(client: Letta, agent_id: str) -> None:
    with pytest.raises(letta_client.UnprocessableEntityError):
        client.agents.passages.create(agent_id, text="")
    with pytest.raises(letta_client.NotFoundError):
        client.agents.passages.list("agent-99999999-9999-4999-8999-999999999999")


def test_an_agents_archive_is_found_by_its_own_id(client: Letta, agent_id: str) -> None:
    assert client.archives.list(agent_id=agent_id).items == []
    (made,) = client.agents.passages.create(agent_id, text="a lantern")
    assert made.archive_id is not None
    (listed,) = client.archives.list(agent_id=agent_id)
    assert listed == client.archives.retrieve(made.archive_id)
    assert listed.id == made.archive_id
    one = client.archives.passages.create(made.archive_id, text="a candle", tags=["x"])
    many = client.archives.passages.create_many(
        made.archive_id, passages=[{"text": "coal"}, {"text": "wax", "metadata": {"a": 1}}]
    )
    assert [passage.text for passage in many] == ["coal", "wax"]
    assert one.id is not None
    assert client.archives.passages.delete(one.id, archive_id=made.archive_id) is None
    texts = {passage.text for passage in client.agents.passages.list(agent_id)}
    assert texts == {"a lantern", "coal", "wax"}
