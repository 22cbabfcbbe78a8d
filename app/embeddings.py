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
from app.store import Store
from domain.streams import ARCHIVE, kind_of
from projections.columns import Scalar
from projections.passages import Conditions, Wanted
from projections.patches import Patch
from projections.vectors import Vector, likeliest, packed, signs_of, similarity, unpacked

# Of a longer text the beginning stands for all: models take some 8,000 tokens.
TEXT_CHARS_MAX: Final = 6_000
EMBEDDED_AT_ONCE: Final = 64
ARCHIVES_AT_ONCE: Final = 500
# Of an archive's passages the newest are compared, and so many of the likeliest measured.
COMPARED_MAX: Final = 20_000
MEASURED_MAX: Final = 256
# A search waits so long for the question's vector, and not at all for some time after that failed.
ASK_TIMEOUT_S: Final = 3.0
SILENCE_S: Final = 30.0
PAUSE_S: Final = 1.0
PAUSE_S_MAX: Final = 60.0
LEASE_MS: Final = 120_000

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

    def want(self, archive_id: str) -> None:
        """Have an archive looked at for passages without a vector."""
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
        """Make the vectors that an archive lacks, unless another node is at it."""
        work = f"vectors of {archive_id}"
        while rows := await self._log.in_reader(lambda: self._lacking(archive_id)):
            if not await self._leases.take(work, LEASE_MS):
                return
            vectors = await self._made([row["text"] for row in rows])
            # Thousands of numbers each: they are spelled where they hold up nobody.
            await self._store(await asyncio.to_thread(self._patches, archive_id, rows, vectors))
            if len(rows) < EMBEDDED_AT_ONCE:
                break
        await self._leases.drop(work)

    def _lacking(self, archive_id: str) -> list[dict[str, Any]]:
        """Read the newest passages without a vector in our space. Blocks."""
        return self._log.store.query(
            "SELECT p.passage_id, p.version, substr(t.text, 1, ?) AS text FROM passages AS p "
            "JOIN texts AS t ON t.stream = p.archive_id AND t.version = p.version "
            "LEFT JOIN embeddings AS e ON e.archive_id = p.archive_id "
            "AND e.passage_id = p.passage_id AND e.space = ? "
            "WHERE p.archive_id = ? AND p.deleted_at IS NULL AND e.space IS NULL "
            "ORDER BY p.version DESC LIMIT ?",
            (TEXT_CHARS_MAX, self.embedder.space, archive_id, EMBEDDED_AT_ONCE),
        )

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
    marks = ", ".join("?" * len(versions))
    rows = store.query(
        "SELECT version, vector FROM embeddings WHERE archive_id = ? AND space = ? "  # noqa: S608 - only marks
        f"AND version IN ({marks})",
        (archive_id, space, *versions),
    )
    return [(row["version"], unpacked(row["vector"])) for row in rows]
