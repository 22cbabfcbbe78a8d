"""A model that says what it is told to, token by token: the tests' vendor, in a thread of its own."""

import asyncio
import random
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Final

from tests.vendor import Block, Json, Script, Vendor

TOKEN_CHARS_MAX: Final = 9
# Some replies are over before their reader has come back, some are not.
DELAYS_S: Final = (0.0, 0.001, 0.002)
START_TIMEOUT_S: Final = 10.0


class Speaker:
    """Answers the next request with the texts it was given last, a block for each."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._texts: tuple[str, ...] = ()
        self._vendor = Vendor(self._script)
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self.base_url = ""

    def say(self, texts: Sequence[str]) -> None:
        """Take the texts of the next reply."""
        self._texts = tuple(texts)

    def _script(self, _: Json) -> Script:
        # A body holds the whole conversation so far; nobody looks at it again.
        self._vendor.requests.clear()
        blocks = tuple(Block("text", tokens(text, self._random)) for text in self._texts)
        return Script(blocks, delay_s=self._random.choice(DELAYS_S))

    def run(self) -> None:
        """Serve until `stop`."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        async with self._vendor as vendor:
            self.base_url = vendor.base_url
            self._listening.set()
            await self._stopping.wait()

    def wait(self) -> None:
        """Wait until it listens."""
        assert self._listening.wait(START_TIMEOUT_S), "the model does not listen"

    def stop(self) -> None:
        """End `run`; from another thread."""
        self._loop.call_soon_threadsafe(self._stopping.set)


def tokens(text: str, source: random.Random) -> tuple[str, ...]:
    """Split a text anywhere between two code points; joined, the tokens are the text."""
    found: list[str] = []
    start = 0
    while start < len(text):
        end = start + source.randint(1, TOKEN_CHARS_MAX)
        found.append(text[start:end])
        start = end
    return tuple(found)


@contextmanager
def speaking(seed: int) -> Generator[Speaker]:
    """Run a speaker for as long as the context is open."""
    speaker = Speaker(seed)
    thread = threading.Thread(target=speaker.run, name="speaker", daemon=True)
    thread.start()
    try:
        speaker.wait()
        yield speaker
    finally:
        speaker.stop()
        thread.join()
