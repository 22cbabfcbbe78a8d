from collections import defaultdict
from collections.abc import Iterable

import pytest

from domain.retention import Kind, Retention
from projections.retention import ITEM_CHARS_MAX, ITEMS_MAX, retention_of

RETENTION_BYTES_MAX = 16 * 1024


def things(*texts: str) -> dict[Kind, set[str]]:
    """Give what is found, by kind; few enough that no list is cut."""
    kinds = retention_of(texts, "").kinds
    return {kind: set(of_kind.lost_items) for kind, of_kind in kinds.items()}


FOUND: list[tuple[Kind, str, set[str]]] = [
    ("name", "I met Anna Karenina in Vienna.", {"Anna Karenina", "Vienna"}),
    ("name", "We saw the Bank of America and Vincent van Gogh.",
     {"Bank of America", "Vincent van Gogh"}),
    ("name", "so my iPhone and YouTube work in NYC", {"iPhone", "YouTube", "NYC"}),
    ("name", "Wow, Zoe's dog is lovely. So is Zoe.", {"Zoe"}),
    ("name", "did Östen and Jean-Luc and Ольга call?", {"Östen", "Jean-Luc", "Ольга"}),
    ("name", "Hello! Thanks for that. I think I'm fine, and OK. See you Monday in June.", set()),
    ("name", "a Great day, what a great day, so GREAT", set()),
    ("name", "Becoming a nurse is hard. Nurses work nights.", set()),
    ("number", "two cats, 1,234.5 km, 50% of 17 and 5km, minus -3, the 3rd",
     {"two", "1,234.5", "50%", "17", "5km", "-3", "3rd"}),
    ("number", "one of us, someone, often", set()),
    ("number", "between 3-5 and (8)", {"3", "5", "8"}),
    ("number", "nine hundred and one, twenty-five, two million",
     {"nine hundred and one", "twenty-five", "two million"}),
    ("date", "7 May 2023, May 8th, 2023-05-09 and 10/5/2023",
     {"7 May 2023", "May 8th", "2023-05-09", "10/5/2023"}),
    ("date", "last Friday, on Tues, two days ago, in a week, the day after tomorrow, next month",
     {"last Friday", "Tues", "two days ago", "in a week", "the day after tomorrow", "next month"}),
    ("date", "in 1999, the 1980s, since March, in August 2024",
     {"1999", "1980s", "March", "August 2024"}),
    ("date", "at 10:30, 7 pm, 2024-01-02T03:04:05Z", {"10:30", "7 pm", "2024-01-02", "03:04:05"}),
    ("date", "you may 5 times march 3 miles", set()),
    ("money", "$20, 1,000 euros, USD 5.50, €3k, thirty bucks, 7 EUR, $2 million",
     {"$20", "1,000 euros", "USD 5.50", "€3k", "thirty bucks", "7 EUR", "$2 million"}),
    ("money", "I lost 20 pounds, try 5", set()),
    ("path", "see /etc/hosts, ~/notes.txt, src/app/main.py, ./run.sh, C:\\Temp\\a.log, report.pdf",
     {"/etc/hosts", "~/notes.txt", "src/app/main.py", "./run.sh", "C:\\Temp\\a.log", "report.pdf"}),
    ("path", 'open "/home/me/My Files/a.txt" now', {'"/home/me/My Files/a.txt"'}),
    ("path", "and/or, he/she/they, 24/7, km/h, N/A, fine.So what, Node.js", set()),
    ("url", "https://example.com/a?b=1, www.example.org/x and example.net (http://localhost:8283/).",
     {"https://example.com/a?b=1", "www.example.org/x", "example.net", "http://localhost:8283/"}),
    ("url", "main.py and lib.rs", set()),
    ("email", "write to first.last+tag@example.co.uk, please", {"first.last+tag@example.co.uk"}),
    ("identifier", "ABC-123 #42 v1.2.3 2.0.1 10.0.0.1:80 fe80::1 3f2a9c1",
     {"ABC-123", "#42", "v1.2.3", "2.0.1", "10.0.0.1:80", "fe80::1", "3f2a9c1"}),
    ("identifier", "user_id getUser os.path.join() run() $HOME ${API_KEY} __init__ @handle",
     {"user_id", "getUser", "os.path.join()", "run()", "$HOME", "${API_KEY}", "__init__", "@handle"}),
    ("identifier", "123e4567-e89b-12d3-a456-426614174000", {"123e4567-e89b-12d3-a456-426614174000"}),
    ("identifier", "call +1 (415) 555-2671", {"+1 (415) 555-2671"}),
    ("identifier", "great.Thanks, e.g. this, i.e. that", set()),
    ("command", "$ ls -la\ngit push origin main\nuse `docker compose up -d` here",
     {"ls -la", "git push origin main", "docker compose up -d"}),
    ("command", "make sure of it\ngit is a great tool\ngo home now\nfind me", set()),
    ("code", "so `x = f(1)` and\n```python\nprint(1)\n```\n", {"x = f(1)", "print(1)"}),
    ("code", "``` never closed\nprint(1)", set()),
    ("quote", "she said \"see you\" and 'not now', it's the kids' toy", {"see you", "not now"}),
    ("quote", "\u201cSo long,\u201d he wrote, \u00abAdieu\u00bb", {"So long,", "Adieu"}),
    ("question", "What colour should the boat have? How are you? Fine.",
     {"What colour should the boat have?"}),
    ("question", "Did the red boat sink? No, it floats.", set()),
    ("question", "See https://example.com/red/boat?colour=red for boats.", set()),
    ("promise", "I'll send the red boat. We will paint walls. Remind me of the boat race.",
     {"I'll send the red boat.", "We will paint walls.", "Remind me of the boat race."}),
    ("promise", "Let me check the boat tomorrow. Let me know about the boat.",
     {"Let me check the boat tomorrow."}),
    ("promise", "I'm going to the boat shop. I'm gonna paint the boat.", {"I'm gonna paint the boat."}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "found"), FOUND)
def test_things_of_a_kind_are_found_and_nothing_else_of_it(
    kind: Kind, text: str, found: set[str]
) -> None:
    assert things(text).get(kind, set()) == found


APART: list[tuple[str, dict[Kind, set[str]]]] = [
    ("mail anna.smith@example.com", {"email": {"anna.smith@example.com"}}),
    ("see https://example.com/2023-05-07/run_7.py?n=5", {"url": {
        "https://example.com/2023-05-07/run_7.py?n=5"}}),
    ("pay $20", {"money": {"$20"}}),
    ("at /srv/data_7/2023-05-07.log", {"path": {"/srv/data_7/2023-05-07.log"}}),
    ("due 2023-05-07", {"date": {"2023-05-07"}}),
    ("two days ago", {"date": {"two days ago"}}),
    ("release v1.2.3", {"identifier": {"v1.2.3"}}),
    ("type `git push origin main`", {"command": {"git push origin main"}}),
    ("in `src/main.py`", {"path": {"src/main.py"}}),
    ("in `sum([1, 2])`", {"code": {"sum([1, 2])"}}),
    ('a "Catch 22 in Paris" here', {"quote": {"Catch 22 in Paris"}}),
    ('a "src/main.py" here', {"path": {"src/main.py"}}),
    ("```sh\nnpm install --global x\n```", {"command": {"npm install --global x"}}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "found"), APART)
def test_what_is_a_thing_of_one_kind_is_not_found_as_another(
    text: str, found: dict[Kind, set[str]]
) -> None:
    assert things(text) == found


SAME: list[tuple[Kind, str, str]] = [
    ("name", "so Anna Smith", "ANNA\n smith was here"),
    ("name", "so \uff34okyo it is", "Tokyo"),
    ("number", "1,000 cats", "1000"),
    ("number", "1000 cats", "1 thousand"),
    ("number", "1000 cats", "one thousand"),
    ("number", "5 cats", "five"),
    ("number", "2.50 m", "2.5"),
    ("number", "1.234,50 m", "1,234.5"),
    ("number", "50% of it", "50 percent"),
    ("number", "7 cats", "```\nx = 7\n```"),
    ("number", "7 cats", 'in "The 7 Samurai" and `f(8)`'),
    ("date", "7 May 2023", "2023-05-07"),
    ("date", "May 7th, 2023", "the 7th of May, 2023"),
    ("date", "7 May", "on 2023-05-07"),
    ("date", "in May", "on 7 May"),
    ("date", "in 2023", "(2023)"),
    ("date", "5/7/2023", "7 May 2023"),
    ("date", "5/7/2023", "5 July 2023"),
    ("date", "last Fri", "last Friday"),
    ("date", "2 days ago", "two days ago"),
    ("date", "7 pm", "19:00"),
    ("date", "10:30", "10:30 pm"),
    ("money", "USD 20", "$20"),
    ("money", "$20", "twenty dollars"),
    ("money", "$1.5k", "1,500 USD"),
    ("path", '"/srv/my data/a.txt"', "/srv/my\\ data/a.txt"),
    ("path", "./src/app/", "`src/app/`"),
    ("url", "https://www.example.com/a/", "example.com/a"),
    ("email", "Anna@Example.com", "anna@example.com"),
    ("identifier", "${API_KEY}", "$API_KEY"),
    ("identifier", "run_all()", "run_all"),
    ("command", "$ git  push", "we ran git push."),
    ("code", "so `x=1`", "X = 1"),
    ("quote", 'the "red boat," she said', "a red boat"),
    ("question", "When will the new boats arrive?", "Asked when the boat arrives"),
    ("promise", "I'll paint the old boat red tomorrow.", "Promised: paint boat, red"),
]

OTHER: list[tuple[Kind, str, str]] = [
    ("name", "so Ann", "Anna"),
    ("number", "5 cats", "15, 5.5, 50% and the 5th, on 5 May 2023"),
    ("date", "7 May 2023", "7 May"),
    ("date", "7 May 2023", "8 May 2023"),
    ("date", "last Friday", "next Friday"),
    ("date", "7 pm", "7 am"),
    ("money", "$20", "20 EUR, $200 and 20"),
    ("path", "src/app.py", "app.py"),
    ("url", "https://example.com/a", "https://example.com/b"),
    ("email", "anna@example.com", "ann@example.com"),
    ("identifier", "ABC-12", "ABC-123"),
    ("command", "$ git push", "git pull"),
    ("quote", 'a "red boat" here', "a red sailing boat"),
    ("question", "When will the new boats arrive?", "The boat is red"),
    ("question", "When will the new boats arrive?", "The boat\nis new.\nArrivals:"),
    ("promise", "I'll paint the old boat red tomorrow.", "The boat is red"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "said", "summary"), SAME)
def test_a_thing_survives_however_it_is_spelled(kind: Kind, said: str, summary: str) -> None:
    assert retention_of([said], summary).kinds[kind].lost_items == ()


@pytest.mark.parametrize(("kind", "said", "summary"), OTHER)
def test_a_thing_does_not_survive_in_one_that_only_looks_like_it(
    kind: Kind, said: str, summary: str
) -> None:
    assert retention_of([said], summary).kinds[kind].kept_items == ()


def test_a_line_that_retells_a_question_counts_wherever_it_is() -> None:
    for lines in (0, 10, 2_000):
        summary = "\n".join((*["nothing"] * lines, "asked when new boats arrive"))
        assert retention_of(["When will the new boats arrive?"], summary).score == 1


def test_the_same_thing_said_twice_counts_once_and_comes_first() -> None:
    retention = retention_of(["about $5", "about $7", "and 7 dollars"], "it was $5")
    assert retention.score == 0.5
    assert retention.kinds["money"].found == 2
    assert retention.kinds["money"].kept_items == ("$5",)
    assert retention.kinds["money"].lost_items == ("$7",)
    assert retention.kinds["money"].score == 0.5
    often = retention_of(["$5, $7, $7"], "").kinds["money"]
    assert often.lost_items == ("$7", "$5")


def test_a_word_that_begins_a_sentence_is_a_name_if_another_sentence_shows_it() -> None:
    alone = "Luna purrs."
    assert things(alone) == {}
    assert things(alone, "my cat is called Luna") == {"name": {"Luna"}}


def test_nothing_said_is_kept_whole() -> None:
    assert retention_of([], "anything") == Retention(score=1, kinds={})
    assert retention_of(["", "well, so it is"], "") == Retention(score=1, kinds={})


def many() -> Iterable[str]:
    """Say so much of every kind that no list can hold it."""
    for n in range(100):
        long = f"\u4e2d\U0001f600 {n} " * 40
        yield f"the Isle{chr(65 + n % 26)}{chr(97 + n // 26)} {n} {n}% ${n}.05 /srv/{n}/a_{n}.py"
        yield f"http://example.com/{n} a{n}@example.com run_{n} on {1 + n % 28} May {1900 + n % 200}"
        yield f'$ git checkout b{n}\n`f({n}) + {long[:200]}` and "so {long[:200]}"'
        yield f"Where is boat {n} of {long}?\nI'll sail boat {n} of {long}."


def test_a_retention_is_small_however_much_was_said_and_counts_all_of_it() -> None:
    texts = list(many())
    for summary in ("", "\n".join(texts[::2])):
        retention = retention_of(texts, summary)
        assert len(retention.model_dump_json()) < RETENTION_BYTES_MAX
        assert len(retention.kinds) == 13
        assert retention.kinds["url"].found == 100
        for of_kind in retention.kinds.values():
            assert max(map(len, (*of_kind.kept_items, *of_kind.lost_items))) <= ITEM_CHARS_MAX
            assert max(len(of_kind.kept_items), len(of_kind.lost_items)) <= ITEMS_MAX


@pytest.mark.parametrize("text", ["so A0_", f"so A{'b' * 99}", f"$ echo {'a' * 2000}", "so A'b1"])
def test_a_thing_that_ends_within_a_word_is_in_a_copy_of_its_text(text: str) -> None:
    assert retention_of([text], text).score == 1


def test_an_item_is_one_line_without_control_characters() -> None:
    items = things("so `a\x00 \x07b\u2028c` it is")
    assert items == {"code": {"a b c"}}


def test_kinds_come_in_one_order() -> None:
    kinds: defaultdict[str, int] = defaultdict(int)
    for order in (("$5 and 7", "on 7 May"), ("on 7 May", "7 and $5")):
        kinds[" ".join(retention_of(order, "").kinds)] += 1
    assert kinds == {"number date money": 2}
