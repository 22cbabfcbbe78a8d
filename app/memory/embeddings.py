"""What passages mean, kept beside them: vectors made in the background and made again when lost.

The text in the log is the truth. Vectors are derived, cost money and time, and are never waited for: a
passage without one is found by its words.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.leases import Leases
from app.log import Log, StoreUnavailable
from app.mapper import Row
from app.providers.embedding import Embedder, EmbeddingFailed, EmbeddingRefused
from app.storage.store import VERSION_MAX, Store, question_marks
from domain.streams import ARCHIVE, kind_of
from projections.columns import Scalar
from projections.passages import Conditions, Wanted
from projections.patches import Patch
from projections.vectors import Vector, likeliest, packed, signs_of, similarity, unpacked

# Of a longer text the beginning stands for all: models take some 8,000 tokens.
TEXT_CHARS_MAX: Final = 6_000
EMBEDDED_AT_ONCE: Final = 64
LOOKED_AT_ONCE: Final = 1_000
ARCHIVES_AT_ONCE: Final = 500
# Of so many archives is known up to where all have vectors; of another all is looked at.
ARCHIVES_KNOWN_MAX: Final = 10_000
# Of an archive's passages the newest are compared, and so many of the likeliest measured.
COMPARED_MAX: Final = 20_000
MEASURED_MAX: Final = 256
# A search waits so long for the question's vector, and not at all for some time after that failed.
ASK_TIMEOUT_S: Final = 3.0
SILENCE_S: Final = 30.0
PAUSE_S: Final = 1.0
PAUSE_S_MAX: Final = 60.0
LEASE_MS: Final = 120_000
# An archive that another node is at is looked at again: that one may have missed the newest.
TAKEN_PAUSE_S: Final = 5.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question's vector, and the space in which it can be compared."""

    space: str
    vector: Vector


class Embeddings:
    """The vectors of all archives, in one model's space."""

    def __init__(self, log: Log, embedder: Embedder, leases: Leases) -> None:
        self.embedder = embedder
        self._log = log
        self._leases = leases
        self._wanting: dict[str, None] = {}
        # Up to which version every passage of an archive has a vector.
        self._filled: dict[str, int] = {}
        self._taken: dict[str, asyncio.TimerHandle] = {}
        self._work = asyncio.Event()
        self._silent_until_s = 0.0
        self._swept_to: str | None = ""
        self._task: asyncio.Task[None] | None = None
        log.listen(self._noticed)

    async def start(self) -> None:
        """Begin with what has no vector yet."""
        self._task = asyncio.create_task(self._run(), name="embeddings")

    async def stop(self) -> None:
        """Stop; what has no vector gets one another time."""
        for timer in self._taken.values():
            timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self.embedder.close()

    async def asked(self, query: str) -> Asked | None:
        """Give a question's vector, None if the model does not answer soon."""
        clock = asyncio.get_running_loop()
        if clock.time() < self._silent_until_s:
            return None
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                (vector,) = await self.embedder.embed([query[:TEXT_CHARS_MAX]])
        except (EmbeddingFailed, EmbeddingRefused, TimeoutError) as error:
            if not isinstance(error, EmbeddingRefused):
                self._silent_until_s = clock.time() + SILENCE_S
            logger.warning("a search goes by words alone: %s", error or "no answer in time")
            return None
        return Asked(self.embedder.space, vector)

    def want(self, archive_id: str, *, anew: bool = False) -> None:
        """Have an archive looked at for passages without a vector; `anew`, for those that had one."""
        if anew:
            self._filled.pop(archive_id, None)
        self._wanting[archive_id] = None
        self._work.set()

    # --- in the background ----------------------------------------------------------------

    def _noticed(self, stream: str, rows: list[Row]) -> None:
        if kind_of(stream) == ARCHIVE and any(row.topic == "passage.inserted" for row in rows):
            self.want(stream)

    async def _run(self) -> None:
        pause_s = PAUSE_S
        while True:
            try:
                await self._next()
                pause_s = PAUSE_S
            except (EmbeddingFailed, StoreUnavailable) as error:
                logger.warning("passages wait for their vectors: %s", error)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, PAUSE_S_MAX)
            except Exception:
                # The others must not wait for it for ever.
                logger.exception("some passages get no vectors now")
                await asyncio.sleep(pause_s)

    async def _next(self) -> None:
        """Look at the next archive, or wait until there is one."""
        if not self._wanting:
            await self._sweep()
        if not self._wanting:
            self._work.clear()
            await self._work.wait()
        archive_id = next(iter(self._wanting))
        del self._wanting[archive_id]
        try:
            await self._fill(archive_id)
        except (EmbeddingFailed, StoreUnavailable):
            self.want(archive_id)
            raise

    async def _sweep(self) -> None:
        """Have every archive looked at once since the start, a page at a time."""
        if self._swept_to is None:
            return
        rows = await self._log.query(
            "SELECT archive_id FROM archives WHERE archive_id > ? AND deleted = 0 "
            "ORDER BY archive_id LIMIT ?",
            (self._swept_to, ARCHIVES_AT_ONCE),
        )
        for row in rows:
            self.want(row["archive_id"])
        self._swept_to = rows[-1]["archive_id"] if rows else None

    async def _fill(self, archive_id: str) -> None:
        """Make the vectors that an archive lacks, the newest first; later if another node is at it."""
        work = f"vectors of {archive_id}"
        after, upto, newest = self._filled.get(archive_id, 0), VERSION_MAX, 0
        while rows := await self._looked_at(archive_id, after, upto):
            newest, upto = max(newest, rows[0]["version"]), rows[-1]["version"] - 1
            lacking = [row["version"] for row in rows if row["space"] is None]
            for begin in range(0, len(lacking), EMBEDDED_AT_ONCE):
                if not await self._leases.take(work, LEASE_MS):
                    self._want_later(archive_id)
                    return
                await self._embed(archive_id, lacking[begin : begin + EMBEDDED_AT_ONCE])
            if len(rows) < LOOKED_AT_ONCE:
                break
        self._note_filled(archive_id, max(after, newest))
        await self._leases.drop(work)

    def _want_later(self, archive_id: str) -> None:
        if archive_id not in self._taken:
            loop = asyncio.get_running_loop()
            self._taken[archive_id] = loop.call_later(TAKEN_PAUSE_S, self._want_now, archive_id)

    def _want_now(self, archive_id: str) -> None:
        del self._taken[archive_id]
        self.want(archive_id)

    def _note_filled(self, archive_id: str, version: int) -> None:
        self._filled.pop(archive_id, None)
        self._filled[archive_id] = version
        if len(self._filled) > ARCHIVES_KNOWN_MAX:
            del self._filled[next(iter(self._filled))]

    async def _looked_at(self, archive_id: str, after: int, upto: int) -> list[dict[str, Any]]:
        """Give the newest passages with after < version <= upto; `space` is None without a vector."""
        return await self._log.query(
            "SELECT p.version, e.space FROM passages AS p LEFT JOIN embeddings AS e "
            "ON e.archive_id = p.archive_id AND e.passage_id = p.passage_id AND e.space = ? "
            "WHERE p.archive_id = ? AND p.version > ? AND p.version <= ? AND p.deleted_at IS NULL "
            "ORDER BY p.version DESC LIMIT ?",
            (self.embedder.space, archive_id, after, upto, LOOKED_AT_ONCE),
        )

    async def _embed(self, archive_id: str, versions: Sequence[int]) -> None:
        marks = question_marks(versions)
        rows = await self._log.query(
            "SELECT p.passage_id, p.version, substr(t.text, 1, ?) AS text FROM passages AS p "  # noqa: S608 - only question marks
            "JOIN texts AS t ON t.stream = p.archive_id AND t.version = p.version "
            f"WHERE p.archive_id = ? AND p.version IN ({marks}) AND t.version IN ({marks}) "
            "ORDER BY p.version DESC",
            (TEXT_CHARS_MAX, archive_id, *versions, *versions),
        )
        vectors = await self._made([row["text"] for row in rows])
        # Thousands of numbers each: they are spelled where they hold up nobody.
        await self._store(await asyncio.to_thread(self._patches, archive_id, rows, vectors))

    async def _made(self, texts: Sequence[str]) -> list[Vector | None]:
        """Have vectors made; None for a text that the model does not take. Raises EmbeddingFailed."""
        try:
            return [*await self.embedder.embed(texts)]
        except EmbeddingRefused:
            if len(texts) == 1:
                return [None]
        made = [one for text in texts for one in await self._made([text])]
        if all(one is None for one in made):
            raise EmbeddingFailed("it takes none of the texts")
        return made

    def _patches(
        self, archive_id: str, rows: Sequence[dict[str, Any]], vectors: Sequence[Vector | None]
    ) -> list[Patch]:
        return [
            Patch("embeddings", (archive_id, row["passage_id"]), self._values(row, vector))
            for row, vector in zip(rows, vectors, strict=True)
        ]

    def _values(self, row: dict[str, Any], vector: Vector | None) -> dict[str, Scalar]:
        return {
            "version": row["version"],
            "space": self.embedder.space,
            "signs": None if vector is None else signs_of(vector),
            "vector": None if vector is None else packed(vector),
        }

    async def _store(self, patches: Sequence[Patch]) -> None:
        store = self._log.store
        await self._log.in_writer(lambda: store.upsert(patches))


def nearest(store: Store, archive_id: str, asked: Asked, wanted: Wanted) -> list[int]:
    """Give the versions of the wanted passages that mean most nearly what was asked. Blocks."""
    conditions = Conditions(archive_id, wanted)
    conditions.add("e.space = ?", asked.space)
    conditions.add("e.signs IS NOT NULL")
    rows = store.query(
        "SELECT p.version, e.signs FROM passages AS p JOIN embeddings AS e "  # noqa: S608 - our own words
        "ON e.archive_id = p.archive_id AND e.passage_id = p.passage_id "
        f"WHERE {conditions.where} ORDER BY p.version DESC LIMIT ?",
        (*conditions.params, COMPARED_MAX),
    )
    signs = {row["version"]: row["signs"] for row in rows}
    some = likeliest(signs, asked.vector, MEASURED_MAX)
    alike = {
        version: similarity(asked.vector, vector)
        for version, vector in _vectors(store, archive_id, asked.space, some)
    }
    return sorted(alike, key=lambda version: (-alike[version], -version))


def _vectors(
    store: Store, archive_id: str, space: str, versions: Sequence[int]
) -> list[tuple[int, Vector]]:
    if not versions:
        return []
    marks = question_marks(versions)
    rows = store.query(
        "SELECT version, vector FROM embeddings WHERE archive_id = ? AND space = ? "  # noqa: S608 - only question marks
        f"AND version IN ({marks})",
        (archive_id, space, *versions),
    )
    return [(row["version"], unpacked(row["vector"])) for row in rows]
