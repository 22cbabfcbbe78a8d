"""An agent's archival memory: passages put in, listed, searched and taken out again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from itertools import islice
from typing import Any, Final
from uuid import uuid4

from app.execute import Execute
from app.log import Log
from app.memory.embeddings import Asked, Embeddings, nearest
from app.providers.embedding import Embedder
from app.ranking import StreamTexts, ranking_of
from app.storage.store import Store, question_marks
from domain.archive import DeleteArchive, DeletePassage, InsertPassage, InsertPassages
from domain.errors import NotFound
from domain.run import Cause
from domain.streams import PASSAGE, archive_of, derived_id, id_of
from projections.passages import (
    EVERY,
    Conditions,
    Found,
    Passage,
    PassageHit,
    Wanted,
    passage_of,
    zone_of,
)
from projections.search_questions import Question
from projections.search_ranks import BY_TEXT
from projections.search_words import has_phrase
from projections.vectors import fused

READ_AT_ONCE: Final = 100
LISTED_DEFAULT: Final = 100
FOUND_DEFAULT: Final = 10


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list in order of time. Cursors are ids of passages, both follow the order.

    `containing` is what the texts must contain, capitals or not.
    """

    after: str | None = None
    before: str | None = None
    limit: int = LISTED_DEFAULT
    ascending: bool = True
    containing: str | None = None


class Archival:
    """The archives of all agents. An agent's own begins with its first passage."""

    def __init__(
        self,
        log: Log,
        execute: Execute,
        embeddings: Embeddings | None = None,
        *,
        worker: str = "worker",
    ) -> None:
        """Search by words; with `embeddings` by what they mean, too. `worker` runs the tools."""
        self._log = log
        self._execute = execute
        self._embeddings = embeddings
        self._worker = worker

    @property
    def embedder(self) -> Embedder | None:
        """The model that says what texts mean, if there is one."""
        return None if self._embeddings is None else self._embeddings.embedder

    async def start(self) -> None:
        """Begin what is done in the background."""
        if self._embeddings is not None:
            await self._embeddings.start()

    async def stop(self) -> None:
        """Stop what is done in the background."""
        if self._embeddings is not None:
            await self._embeddings.stop()

    async def insert(  # noqa: PLR0913 - what a passage is, each of it by name
        self,
        agent_id: str,
        text: str,
        *,
        tags: Sequence[str] = (),
        created_at: datetime | None = None,
        metadata: dict[str, Any] | None = None,
        cause: Cause | None = None,
        key: str | None = None,
        by: str,
    ) -> Passage:
        """Put a text into an agent's archive; the same `key` puts it there once.

        The key is the cause's own name if none is given. Gives the passage that is there.
        Raises NotFound, or Refused for what does not fit.
        """
        await self._living(agent_id)
        stream = archive_of(agent_id)
        key = _name_of(cause) if key is None and cause is not None else key
        passage_id = id_of(PASSAGE, uuid4()) if key is None else derived_id(PASSAGE, key)
        if key is not None and (known := await self._passage(stream, passage_id)) is not None:
            return known
        command = InsertPassage(passage_id, text, tuple(tags), created_at, metadata, cause)
        await self._execute(stream, _storable(command), by)
        return await self.passage(agent_id, passage_id, deleted=True)

    async def insert_all(
        self, agent_id: str, passages: Sequence[InsertPassage], *, by: str
    ) -> Sequence[Passage]:
        """Put texts into an agent's archive in one append: all of them or none.

        Gives them in their order. Raises NotFound, or Refused for what does not fit, with its number.
        """
        await self._living(agent_id)
        archive = _Archive(self._log.store, archive_of(agent_id))
        stored = tuple(map(_storable, passages))
        await self._execute(archive.stream, InsertPassages(stored), by)
        ids = [one.passage_id for one in stored]
        return await self._log.in_reader(lambda: archive.named(ids))

    async def passage(self, agent_id: str, passage_id: str, *, deleted: bool = False) -> Passage:
        """Give a passage of an agent's, one that was taken out again only if asked. Raises NotFound."""
        found = await self._passage(archive_of(agent_id), passage_id, deleted=deleted)
        if found is None:
            raise NotFound("Passage", passage_id)
        return found

    async def delete(self, agent_id: str, passage_id: str, *, by: str) -> None:
        """Take a passage out of an agent's archive. Raises NotFound."""
        known = await self.passage(agent_id, passage_id)
        await self._execute(archive_of(agent_id), DeletePassage(passage_id, known.tags), by)

    async def end(self, agent_id: str, *, by: str) -> None:
        """Put an end to an agent's archive; nothing happens if it has none."""
        await self._execute(archive_of(agent_id), DeleteArchive(), by)

    async def list(
        self, agent_id: str, page: Page | None = None, wanted: Wanted = EVERY
    ) -> list[Passage]:
        """Give a page of an agent's passages. Raises NotFound for an unknown cursor."""
        archive = _Archive(self._log.store, archive_of(agent_id))
        return await self._log.in_reader(lambda: archive.page(page or Page(), wanted))

    async def search(
        self, agent_id: str, query: str, limit: int = FOUND_DEFAULT, wanted: Wanted = EVERY
    ) -> Found:
        """Give the passages of an agent that answer a query best, or the newest if it has no words.

        Any query will do. Raises StoreUnavailable.
        """
        (found,) = await self.search_each([agent_id], query, limit, wanted)
        return found

    async def search_each(
        self, agents: Sequence[str], query: str, limit: int, wanted: Wanted
    ) -> Sequence[Found]:
        """Search the archives of some agents as `search` does, and ask once what the query means."""
        asked = None
        if self._embeddings is not None and query.strip():
            asked = await self._embeddings.asked(query)
        return [await self._found(one, query, limit, wanted, asked) for one in agents]

    async def _found(
        self, agent_id: str, query: str, limit: int, wanted: Wanted, asked: Asked | None
    ) -> Found:
        archive = _Archive(self._log.store, archive_of(agent_id))
        found = await self._log.in_reader(lambda: archive.found(query, limit, wanted, asked))
        if self._embeddings is not None and asked is not None and found.mode == "text":
            # There are no vectors: they were lost, or are on their way.
            self._embeddings.want(archive.stream, anew=True)
        return found

    async def agents(self, limit: int) -> Sequence[str]:
        """Name agents that have an archive, at most so many, the oldest archive first."""
        rows = await self._log.query(
            "SELECT agent_id FROM archives WHERE deleted = 0 "
            "ORDER BY created_at, archive_id LIMIT ?",
            (limit,),
        )
        return [row["agent_id"] for row in rows]

    # --- for tools ------------------------------------------------------------------------

    async def insert_for(
        self, conversation_id: str, text: str, *, tags: Sequence[str], cause: Cause, key: str
    ) -> Passage:
        """Put a text into the archive of a conversation's agent. As `insert`."""
        agent_id = await self._agent_of(conversation_id)
        return await self.insert(agent_id, text, tags=tags, cause=cause, key=key, by=self._worker)

    async def search_for(
        self, conversation_id: str, query: str, limit: int, wanted: Wanted
    ) -> Found:
        """Search the archive of a conversation's agent. As `search`."""
        return await self.search(await self._agent_of(conversation_id), query, limit, wanted)

    async def zone_for(self, conversation_id: str) -> tzinfo:
        """Give the time zone of a conversation's agent."""
        agent = await self._execute.agent(await self._agent_of(conversation_id))
        return zone_of(None if agent.settings is None else agent.settings.timezone)

    async def _agent_of(self, conversation_id: str) -> str:
        agent_id = (await self._execute.conversation(conversation_id)).agent_id
        if agent_id is None:
            raise NotFound("Conversation", conversation_id)
        return agent_id

    # --- inside ---------------------------------------------------------------------------

    async def _living(self, agent_id: str) -> None:
        agent = await self._execute.agent(agent_id)
        if agent.settings is None or agent.deleted:
            raise NotFound("Agent", agent_id)

    async def _passage(
        self, stream: str, passage_id: str, *, deleted: bool = True
    ) -> Passage | None:
        archive = _Archive(self._log.store, stream)
        return await self._log.in_reader(lambda: archive.passage(passage_id, deleted=deleted))


def _name_of(cause: Cause) -> str:
    return f"{cause.stream}@{cause.offset}#{cause.n}"


def _storable(passage: InsertPassage) -> InsertPassage:
    """Give a passage without what no database keeps: halves of surrogate pairs, and NUL."""
    tags = tuple(map(_kept, passage.tags))
    return replace(passage, text=_kept(passage.text), tags=tags)


def _kept(text: str) -> str:
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")


@dataclass(frozen=True, slots=True)
class _Archive:
    """An archive's passages in the read tables. Every call blocks."""

    store: Store
    stream: str

    def passage(self, passage_id: str, *, deleted: bool) -> Passage | None:
        conditions = Conditions(self.stream, deleted=deleted)
        conditions.add("p.passage_id = ?", passage_id)
        rows = self.store.query(conditions.sql, conditions.params)
        return passage_of(rows[0]) if rows else None

    def named(self, ids: Sequence[str]) -> list[Passage]:
        """Read passages by their ids, in that order, those taken out since as well."""
        if not ids:
            return []
        conditions = Conditions(self.stream, deleted=True)
        conditions.add(f"p.passage_id IN ({question_marks(ids)})", *ids)
        rows = self.store.query(conditions.sql, conditions.params)
        return sorted(map(passage_of, rows), key=lambda one: ids.index(one.passage_id))

    def page(self, page: Page, wanted: Wanted) -> list[Passage]:
        conditions = Conditions(self.stream, wanted)
        if page.containing:
            conditions.add("instr(lower(t.text), lower(?)) > 0", page.containing)
        for cursor, forwards in ((page.after, True), (page.before, False)):
            if cursor is not None:
                self._bound(conditions, cursor, later=page.ascending == forwards)
        # `before` alone gives the last ones before it: walking back misses none.
        backwards = page.before is not None and page.after is None
        way = "ASC" if page.ascending != backwards else "DESC"
        sql = f"{conditions.sql} ORDER BY p.created_at {way}, p.version {way} LIMIT ?"
        rows = self.store.query(sql, (*conditions.params, page.limit))
        return [passage_of(row) for row in (rows[::-1] if backwards else rows)]

    def _bound(self, conditions: Conditions, cursor: str, *, later: bool) -> None:
        """Keep to one side of a passage, which may have been taken out since."""
        rows = self.store.query(
            "SELECT created_at, version FROM passages WHERE archive_id = ? AND passage_id = ?",
            (self.stream, cursor),
        )
        if not rows:
            raise NotFound("Passage", cursor)
        sign, at, version = ">" if later else "<", rows[0]["created_at"], rows[0]["version"]
        condition = f"(p.created_at {sign} ? OR (p.created_at = ? AND p.version {sign} ?))"
        conditions.add(condition, at, at, version)

    def found(self, query: str, limit: int, wanted: Wanted, asked: Asked | None) -> Found:
        if not query.strip():
            newest = self.page(Page(limit=limit, ascending=False), wanted)
            return Found(tuple(PassageHit(one, 0.0) for one in newest), "newest")
        ranking = ranking_of(StreamTexts(self.store, self.stream), query, weights=BY_TEXT)
        near = [] if asked is None else nearest(self.store, self.stream, asked, wanted)
        words = [version for version, _ in ranking.order]
        order = fused([words, near]) if near else ranking.order
        hits = tuple(islice(self._hits(order, ranking.question, wanted), limit))
        return Found(hits, "hybrid" if near else "text", ranking.corrections)

    def _hits(
        self, order: Sequence[tuple[int, float]], question: Question, wanted: Wanted
    ) -> Iterator[PassageHit]:
        for start in range(0, len(order), READ_AT_ONCE):
            page = order[start : start + READ_AT_ONCE]
            passages = self.passages([version for version, _ in page], wanted)
            for version, score in page:
                one = passages.get(version)
                if one is not None and _has_all(one.text, question):
                    yield PassageHit(one, round(score, 4))

    def passages(self, versions: Sequence[int], wanted: Wanted) -> dict[int, Passage]:
        conditions = Conditions(self.stream, wanted)
        conditions.add(f"p.version IN ({question_marks(versions)})", *versions)
        rows = self.store.query(conditions.sql, conditions.params)
        return {row["version"]: passage_of(row) for row in rows}


def _has_all(text: str, question: Question) -> bool:
    return all(has_phrase(text, phrase) for phrase in question.phrases)
