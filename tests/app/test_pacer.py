import asyncio
from random import Random

import pytest

from app.pacer import BUFFER_CHARS_MAX, Pacer
from app.providers import Delta
from domain.run import DeltaCall, StepDelta

HOUR_S = 3600.0


class Disk:
    """Keeps what it is given; while it is `stuck`, an append does not come back."""

    def __init__(self) -> None:
        self.appends: list[tuple[StepDelta, ...]] = []
        self.begun = 0
        self._free = asyncio.Event()
        self._free.set()

    def stuck(self) -> None:
        self._free.clear()

    def freed(self) -> None:
        self._free.set()

    async def keep(self, deltas: tuple[StepDelta, ...]) -> None:
        self.begun += 1
        await self._free.wait()
        self.appends.append(deltas)

    @property
    def words(self) -> str:
        return "".join(delta.x for append in self.appends for delta in append)


async def breathe() -> None:
    """Let every other task go as far as it can without time passing."""
    for _ in range(20):
        await asyncio.sleep(0)


def text(words: str, index: int = 0) -> Delta:
    return Delta(index, "text", words)


def fact(words: str, i: int = 0) -> StepDelta:
    return StepDelta(s=5, i=i, kind="text", x=words)


async def test_the_first_delta_is_kept_at_once_and_the_next_wait_for_their_time() -> None:
    disk = Disk()
    pacer = Pacer(5, disk.keep, HOUR_S)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(pacer.run())
        for word in ("Good ", "day", "."):
            await pacer.add(text(word))
            await breathe()
        assert disk.appends == [(fact("Good "),)]
        pacer.end()
    assert pacer.rest() == (fact("day."),)


async def test_without_a_pace_each_delta_is_kept_as_it_comes() -> None:
    disk = Disk()
    pacer = Pacer(5, disk.keep, 0)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(pacer.run())
        for count, word in enumerate(("Good ", "day", "."), start=1):
            await pacer.add(text(word))
            while len(disk.appends) < count:
                await asyncio.sleep(0)
        pacer.end()
    assert disk.appends == [(fact("Good "),), (fact("day"),), (fact("."),)]
    assert pacer.rest() == ()


async def test_what_comes_while_an_append_is_under_way_is_merged_into_the_next() -> None:
    disk = Disk()
    pacer = Pacer(5, disk.keep, 0)
    disk.stuck()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(pacer.run())
        for word in ("a", "b", "c", "d"):
            await pacer.add(text(word))
            await breathe()
        disk.freed()
        while len(disk.appends) < 2:
            await asyncio.sleep(0)
        pacer.end()
    assert disk.appends == [(fact("a"),), (fact("bcd"),)]


async def test_deltas_are_merged_by_part_and_kind_and_keep_their_order() -> None:
    pacer = Pacer(5, Disk().keep, HOUR_S)
    for delta in (
        Delta(0, "reasoning", "h"),
        Delta(0, "reasoning", "m"),
        Delta(0, "signature", "sig"),
        Delta(0, "signature", "ned"),
        Delta(1, "text", "a"),
        Delta(2, "text", "b"),
        Delta(2, "text", "c"),
        Delta(1, "text", "d"),
    ):
        await pacer.add(delta)
    assert pacer.rest() == (
        StepDelta(s=5, i=0, kind="reasoning", x="hm"),
        StepDelta(s=5, i=0, kind="signature", x="signed"),
        fact("a", 1),
        fact("bc", 2),
        fact("d", 1),
    )


async def test_only_the_first_delta_of_a_call_names_it_and_no_other_is_merged_into_its_like() -> (
    None
):
    pacer = Pacer(5, Disk().keep, HOUR_S)
    for delta in (
        Delta(0, "arguments", "", call_id="call-1", call_name="weather"),
        Delta(0, "arguments", '{"a"'),
        Delta(0, "arguments", ":1}"),
        Delta(1, "arguments", "{", call_id="call-2", call_name="time"),
        Delta(1, "arguments", "}"),
    ):
        await pacer.add(delta)
    first, second = pacer.rest()
    assert (first.x, first.call) == ('{"a":1}', DeltaCall(id="call-1", name="weather"))
    assert (second.x, second.call) == ("{}", DeltaCall(id="call-2", name="time"))


async def test_what_is_kept_without_a_call_does_not_say_so() -> None:
    pacer = Pacer(5, Disk().keep, HOUR_S)
    await pacer.add(text("a"))
    (delta,) = pacer.rest()
    assert "call" not in delta.model_fields_set


async def test_the_rest_is_taken_once() -> None:
    pacer = Pacer(5, Disk().keep, HOUR_S)
    await pacer.add(text("a"))
    assert pacer.rest() == (fact("a"),)
    assert pacer.rest() == ()


async def test_an_end_waits_for_the_append_that_is_under_way() -> None:
    disk = Disk()
    pacer = Pacer(5, disk.keep, HOUR_S)
    disk.stuck()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        run = group.create_task(pacer.run())
        await pacer.add(text("a"))
        await breathe()
        await pacer.add(text("b"))
        pacer.end()
        await breathe()
        assert not run.done()
        disk.freed()
    assert disk.appends == [(fact("a"),)]
    assert pacer.rest() == (fact("b"),)


async def test_an_end_before_anything_was_said_keeps_nothing() -> None:
    disk = Disk()
    pacer = Pacer(5, disk.keep, HOUR_S)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(pacer.run())
        await breathe()
        pacer.end()
    assert (disk.begun, pacer.rest()) == (0, ())


async def test_a_full_buffer_makes_the_producer_wait_until_there_is_room() -> None:
    disk = Disk()
    pacer = Pacer(5, disk.keep, HOUR_S)
    disk.stuck()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(pacer.run())
        await pacer.add(text("a"))
        await breathe()
        flood = group.create_task(pacer.add(text("x" * (BUFFER_CHARS_MAX + 1))))
        await breathe()
        assert not flood.done()
        disk.freed()
        await flood
        pacer.end()
    assert len(disk.words) + sum(len(one.x) for one in pacer.rest()) == BUFFER_CHARS_MAX + 2


async def test_a_full_buffer_is_kept_before_its_time() -> None:
    disk = Disk()
    pacer = Pacer(5, disk.keep, HOUR_S)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(pacer.run())
        await pacer.add(text("a"))
        await breathe()
        await pacer.add(text("x" * (BUFFER_CHARS_MAX + 1)))
        while len(disk.appends) < 2:
            await asyncio.sleep(0)
        pacer.end()
    assert disk.appends[1] == (fact("x" * (BUFFER_CHARS_MAX + 1)),)


async def test_a_model_that_never_lets_go_of_the_loop_is_kept_up_with() -> None:
    disk = Disk()
    pacer = Pacer(5, disk.keep, 0)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(pacer.run())
        for _ in range(100):
            await pacer.add(text("word "))
        assert disk.appends
        pacer.end()
    assert disk.words + "".join(one.x for one in pacer.rest()) == "word " * 100


async def test_an_append_that_fails_ends_the_pacer_with_its_error() -> None:
    async def keep(_: tuple[StepDelta, ...]) -> None:
        raise OSError("the disk is gone")

    pacer = Pacer(5, keep, 0)
    async with asyncio.timeout(30):
        await pacer.add(text("a"))
        with pytest.raises(OSError, match="the disk is gone"):
            await pacer.run()


@pytest.mark.parametrize("seed", range(20))
async def test_nothing_is_lost_doubled_or_turned_around(seed: int) -> None:
    random = Random(seed)
    appends: list[StepDelta] = []

    async def keep(deltas: tuple[StepDelta, ...]) -> None:
        for _ in range(random.randrange(5)):
            await asyncio.sleep(0)
        appends.extend(deltas)

    pacer = Pacer(5, keep, random.choice((0, 0.001)))
    sent: list[tuple[int, str]] = []
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(pacer.run())
        for number in range(random.randrange(60)):
            index = number // 7
            words = f"{number}." * random.choice((1, 1, 1, 20_000))
            sent.append((index, words))
            await pacer.add(text(words, index))
            for _ in range(random.randrange(3)):
                await asyncio.sleep(0)
        pacer.end()
    got = [*appends, *pacer.rest()]
    for index in range(10):
        said = "".join(words for at, words in sent if at == index)
        assert "".join(delta.x for delta in got if delta.i == index) == said
    assert [delta.i for delta in got] == sorted(delta.i for delta in got)
