"""What passages mean: vectors made in the background through the real SDK, lost, and made again."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from app.execute import Execute
from app.leases import Leases
from app.log import Log
from app.memory.archival import Archival
from app.memory.embeddings import EMBEDDED_AT_ONCE, TEXT_CHARS_MAX, Embeddings
from app.providers.embedding import EmbeddingFailed, EmbeddingRefused
from app.providers.embedding_vendors import OpenAIEmbedder
from domain.agent import AgentSettings, CreateAgent
from domain.errors import Refused
from domain.streams import AGENT, archive_of, derived_id
from projections.columns import Scalar
from projections.passages import EVERY, Wanted
from projections.patches import LEASE_MS, Patch
from tests.app.serving import serving
from tests.examples import AGENT_ID, MODEL
from tests.meanings import DIMENSIONS, Meanings

HANDLE: Final = "openai/text-embedding-3-small"
OTHER: Final = derived_id(AGENT, "other")
CARS: Final = "The red car is behind the house"
CATS: Final = "A cat sleeps on the stairs"
TAXES: Final = "Taxes are due in spring"


@pytest.fixture
async def model() -> AsyncGenerator[Meanings]:
    async with Meanings() as server:
        yield server


@asynccontextmanager
async def remembering(
    log: Log, model: Meanings, *, start: bool = True, **embedder: Any
) -> AsyncGenerator[Archival]:
    execute = Execute(log)
    with suppress(Refused):  # a second time
        await execute(AGENT_ID, CreateAgent(AgentSettings(name="guide", model=MODEL)), "user")
    client = OpenAIEmbedder(HANDLE, "none", model.base_url, **embedder)
    embeddings = Embeddings(log, client, Leases(log, "node-1"))
    archival = Archival(log, execute, embeddings)
    if start:
        await archival.start()
    try:
        yield archival
    finally:
        await archival.stop()


async def put(archival: Archival, *texts: str, **more: Any) -> list[str]:
    return [(await archival.insert(AGENT_ID, one, by="user", **more)).passage_id for one in texts]


async def until(log: Log, count: int, having: Callable[[Any], bool] = bool) -> None:
    """Wait until so many passages have been looked at."""
    async with asyncio.timeout(30):
        while True:
            rows = await log.query("SELECT passage_id, space, vector FROM embeddings")
            if len([row for row in rows if having(row)]) == count:
                return
            await asyncio.sleep(0.01)


async def found(archival: Archival, query: str, **wanted: Any) -> tuple[list[str], str]:
    answer = await archival.search(AGENT_ID, query, 3, Wanted(**wanted))
    return [hit.passage.text for hit in answer.hits], answer.mode


async def test_a_passage_is_found_by_what_it_means(log: Log, model: Meanings) -> None:
    async with remembering(log, model) as archival:
        await put(archival, CARS, CATS, TAXES)
        await until(log, 3)
        texts, mode = await found(archival, "automobile")
    assert (texts[0], mode) == (CARS, "hybrid")
    assert model.keys[0] == "Bearer none"
    assert {request["model"] for request in model.requests} == {"text-embedding-3-small"}


async def test_words_and_meaning_together_come_before_either(log: Log, model: Meanings) -> None:
    async with remembering(log, model) as archival:
        await put(archival, "spring", CARS, "The vehicle is behind the barn in spring", CATS)
        await until(log, 4)
        texts, _ = await found(archival, "automobile behind barn")
    assert texts[0] == "The vehicle is behind the barn in spring"


async def test_phrases_tags_and_time_narrow_what_is_found_by_meaning(
    log: Log, model: Meanings
) -> None:
    async with remembering(log, model) as archival:
        await put(archival, CARS, tags=["garage"])
        await put(archival, "My kitten ate a vehicle", tags=["house"])
        await until(log, 2)
        assert (await found(archival, "automobile", tags=["house"]))[0] == [
            "My kitten ate a vehicle"
        ]
        assert (await found(archival, 'automobile "behind the house"'))[0] == [CARS]


async def test_of_many_archives_what_is_asked_is_embedded_once(log: Log, model: Meanings) -> None:
    async with remembering(log, model) as archival:
        await put(archival, CARS, CATS)
        await until(log, 2)
        found = await archival.search_each([AGENT_ID, OTHER], "automobile", 3, EVERY)
    assert [one.mode for one in found] == ["hybrid", "text"]
    assert model.texts.count("automobile") == 1


async def test_without_vectors_and_without_an_answer_words_are_enough(
    log: Log, model: Meanings, caplog: pytest.LogCaptureFixture
) -> None:
    async with remembering(log, model, start=False) as archival:
        await put(archival, CARS)
        assert await found(archival, "car") == ([CARS], "text")
        model.status = 401
        with caplog.at_level(logging.WARNING):
            assert await found(archival, "red car") == ([CARS], "text")
        asked = len(model.requests)
        assert await found(archival, "car") == ([CARS], "text")
    assert len(model.requests) == asked
    assert "a search goes by words alone: status 401" in caplog.text
    assert "red car" not in caplog.text


async def test_what_was_put_in_while_nobody_looked_gets_its_vector_at_the_next_start(
    log: Log, model: Meanings
) -> None:
    async with remembering(log, model, start=False) as archival:
        await put(archival, *(f"note {number}" for number in range(EMBEDDED_AT_ONCE + 3)))
    async with remembering(log, model):
        await until(log, EMBEDDED_AT_ONCE + 3)
    assert [len(request["input"]) for request in model.requests] == [EMBEDDED_AT_ONCE, 3]


async def test_each_passage_is_embedded_once_but_for_another_space(
    log: Log, model: Meanings
) -> None:
    async with remembering(log, model) as archival:
        await put(archival, CARS)
        await until(log, 1)
    async with remembering(log, model) as archival:
        await put(archival, CATS)
        await until(log, 2)
    assert model.texts == [CARS, CATS]
    async with remembering(log, model, dimensions=32) as archival:
        await until(log, 2, lambda row: row["space"] == f"{HANDLE}@32")
        assert (await found(archival, "automobile"))[0][0] == CARS
    assert model.requests[-1]["dimensions"] == 32


async def test_a_model_that_is_away_is_asked_again(
    log: Log, model: Meanings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.memory.embeddings.PAUSE_S", 0.01)
    model.status = 503
    async with remembering(log, model) as archival:
        await put(archival, CARS)
        async with asyncio.timeout(30):
            while not model.requests:
                await asyncio.sleep(0.01)
        model.status = 200
        await until(log, 1)
        assert (await found(archival, "automobile"))[0][0] == CARS
    assert len(model.requests) > 1


async def test_a_text_that_the_model_does_not_take_keeps_none_from_the_others(
    log: Log, model: Meanings
) -> None:
    model.refused = "cat"
    async with remembering(log, model, start=False) as archival:
        await put(archival, CARS, CATS, TAXES)
    async with remembering(log, model) as archival:
        await until(log, 3)
        await until(log, 2, lambda row: row["vector"] is not None)
        assert (await found(archival, "sleeps"))[0][0] == CATS
        assert (await found(archival, "feline"))[1] == "hybrid"


async def test_of_a_long_text_the_beginning_is_sent(log: Log, model: Meanings) -> None:
    async with remembering(log, model) as archival:
        await put(archival, "word " * TEXT_CHARS_MAX)
        await until(log, 1)
    assert [len(text) for text in model.texts] == [TEXT_CHARS_MAX]


class Refusals(Leases):
    """Leases that tell when they were not given."""

    def __init__(self, log: Log, node: str) -> None:
        super().__init__(log, node)
        self.refused = asyncio.Event()

    async def take(self, work: str, for_ms: int = LEASE_MS) -> bool:
        taken = await super().take(work, for_ms)
        if not taken:
            self.refused.set()
        return taken


async def test_another_node_that_is_at_it_is_left_alone(log: Log, model: Meanings) -> None:
    async with remembering(log, model, start=False) as archival:
        await put(archival, CARS)
    assert await Leases(log, "node-2").take(f"vectors of {archive_of(AGENT_ID)}", 60_000)
    leases = Refusals(log, "node-1")
    embeddings = Embeddings(log, OpenAIEmbedder(HANDLE, "none", model.base_url), leases)
    await embeddings.start()
    async with asyncio.timeout(30):
        await leases.refused.wait()
    await embeddings.stop()
    assert model.requests == []


async def test_what_another_node_was_at_is_looked_at_again(
    log: Log, model: Meanings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.memory.embeddings.TAKEN_PAUSE_S", 0.01)
    async with remembering(log, model, start=False) as archival:
        await put(archival, CARS)
    work, other = f"vectors of {archive_of(AGENT_ID)}", Leases(log, "node-2")
    assert await other.take(work, 60_000)
    leases = Refusals(log, "node-1")
    embeddings = Embeddings(log, OpenAIEmbedder(HANDLE, "none", model.base_url), leases)
    await embeddings.start()
    async with asyncio.timeout(30):
        await leases.refused.wait()
    await other.drop(work)
    await until(log, 1)
    await embeddings.stop()
    assert model.texts == [CARS]


async def test_an_archive_of_several_pages_is_embedded_whole_and_each_passage_once(
    log: Log, model: Meanings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.memory.embeddings.LOOKED_AT_ONCE", 3)
    monkeypatch.setattr("app.memory.embeddings.EMBEDDED_AT_ONCE", 2)
    async with remembering(log, model, start=False) as archival:
        await put(archival, *(f"note {number}" for number in range(8)))
    async with remembering(log, model) as archival:
        await until(log, 8)
        # The newest first: they are what is asked for next.
        assert model.texts[:3] == ["note 7", "note 6", "note 5"]
        await put(archival, CARS)
        await until(log, 9)
    assert len(model.texts) == len(set(model.texts)) == 9


async def test_vectors_that_were_lost_are_made_again_when_they_are_missed(
    log: Log, model: Meanings
) -> None:
    async with remembering(log, model) as archival:
        await put(archival, CARS, CATS)
        await until(log, 2)
        lost: dict[str, Scalar] = {"space": "another model's", "vector": None}
        rows = await log.query("SELECT passage_id FROM embeddings")
        key = archive_of(AGENT_ID)
        patches = [Patch("embeddings", (key, row["passage_id"]), lost) for row in rows]
        await log.in_writer(lambda: log.store.upsert(patches))
        assert (await found(archival, "automobile"))[1] == "text"
        await until(log, 2, lambda row: row["vector"] is not None)
        assert (await found(archival, "automobile"))[1] == "hybrid"


async def test_what_a_vendor_answers_is_told_without_its_words(model: Meanings) -> None:
    embedder = OpenAIEmbedder(HANDLE, "none", model.base_url)
    model.status = 404
    with pytest.raises(EmbeddingFailed, match=r"^status 404$"):
        await embedder.embed(["secret"])
    model.status = 422
    with pytest.raises(EmbeddingRefused, match=r"^status 422$"):
        await embedder.embed(["secret"])
    await embedder.close()
    gone = OpenAIEmbedder(HANDLE, None, "http://127.0.0.1:9/v1", timeout_s=2)
    with pytest.raises(EmbeddingFailed, match=r"^APIConnectionError$"):
        await gone.embed(["secret"])
    await gone.close()


async def test_the_model_is_listed_and_searches_say_how_they_went(
    tmp_path: Path, model: Meanings
) -> None:
    settings: dict[str, Any] = {"embedding_model": HANDLE, "openai_base_url": model.base_url}
    async with serving(tmp_path / "a.db", **settings) as server:
        (listed,) = await server.get("/v1/models/embedding")
        assert (listed["handle"], listed["embedding_dim"]) == (HANDLE, 1536)
        await server.services.archival.start()
        root = f"/v1/agents/{await server.agent()}/archival-memory"
        await server.http.post(root, json={"text": CARS})
        await until(server.services.log, 1)
        answer = await server.get(f"{root}/search", query="automobile")
        assert [one["content"] for one in answer["results"]] == [CARS]
        assert answer["search_mode"] == "hybrid"
        (listed,) = await server.get("/v1/models/embedding")
        assert listed["embedding_dim"] == DIMENSIONS
        await server.services.archival.stop()


async def test_without_a_model_none_is_listed(tmp_path: Path) -> None:
    async with serving(tmp_path / "a.db") as server:
        assert await server.get("/v1/models/embedding") == []
