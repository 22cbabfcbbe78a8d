"""A process that appends: `-m tests.whole.writer URL COUNT STREAM OTHER…`.

To the first stream it appends alone, as fast as it can; to the others whoever else does so too.
"""

import asyncio
import sys
from typing import Final

from app.log import Log, VersionConflict
from app.storage.postgres import PostgresStore, Terms
from tests import examples

FACTS_AN_APPEND: Final = 10
AT_ONCE: Final = 8


async def main(url: str, count: int, own: str, *shared: str) -> None:
    """Append `count` facts."""
    async with Log(PostgresStore(url, Terms(name="everlog test writer"))) as log:
        appends = count // FACTS_AN_APPEND
        for number in range(appends // AT_ONCE):
            start = number * AT_ONCE * FACTS_AN_APPEND
            mine = [append(log, own, start + n * FACTS_AN_APPEND) for n in range(AT_ONCE - 1)]
            await asyncio.gather(*mine, contend(log, shared[number % len(shared)]))
            # What was not appended alone keeps its place in the count.
            await append(log, own, start + (AT_ONCE - 1) * FACTS_AN_APPEND)


def append(log: Log, stream: str, expected: int) -> "asyncio.Future[object]":
    facts = [examples.delta(x=f"{stream[-3:]}-{expected + n} ") for n in range(FACTS_AN_APPEND)]
    return log.append(stream, expected, facts, "worker:test")  # type: ignore[return-value]


async def contend(log: Log, stream: str) -> None:
    """Append to a stream to which others append as well, until it is done."""
    while True:
        head = await log.head(stream)
        try:
            await append(log, stream, head[0] if head else 0)
        except VersionConflict:
            continue
        return


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:]))
