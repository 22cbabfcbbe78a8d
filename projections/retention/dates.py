"""Dates and times, absolute and relative.

A date's key is ISO 8601 with what was not said left out: 2023-05-07, 2023-05, 2023, --05-07, --05. What
can be read in two ways (5/7/2023, 10:30) has both readings in its key. A relative date ("last
Friday", "two days ago") is the phrase itself, since nobody says here when it was said.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from projections.retention.amounts import SPELLED, spelled_value
from projections.retention.things import Thing
from projections.retention.vocabulary import MONTHS, WEEKDAYS

# Month names that are never another word, so that they need no company.
CLEAR_MONTHS: Final = "January February April June July August September October November December"
_MONTH: Final = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\b\.?"
)
_DAY: Final = r"(?P<day>0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?"
_YEAR: Final = r"(?P<year>(?:1[89]|20|21)\d\d)(?![\w-]|[.,]\d)"
_WEEKDAY: Final = "(?:mon|tues|wednes|thurs|fri|satur|sun)days?"
_PERIOD: Final = r"(?:second|minute|hour|day|night|week|weekend|fortnight|month|year|decade)"
_SEASON: Final = "spring|summer|fall|autumn|winter|semester|quarter|christmas|easter|thanksgiving"
_HOW_MANY: Final = rf"(?P<count>\d{{1,4}}|a[ ]few|few|several|a[ ]couple(?:[ ]of)?|an?|{SPELLED})"
_BEFORE_YEAR: Final = (
    "in|since|by|from|to|until|till|during|before|after|of|around|circa|early|late|mid|year"
    f"|for|than|{_SEASON}"
)

NUMERIC: Final = re.compile(
    r"(?<![\w./-])(?:(?P<year>(?:1[89]|20|21)\d\d)(?P<sep>[-/.])(?P<a>\d\d?)(?P=sep)(?P<b>\d\d?)"
    r"(?=\b|T\d)|(?P<d>\d\d?)(?P<sep2>[-/.])(?P<m>\d\d?)(?P=sep2)(?P<y>(?:1[89]|20|21)\d\d|\d\d)\b)"
    r"(?![-/]\w|\.\d)"
)
DAY_MONTH: Final = re.compile(
    rf"(?<![\w.:/-]){_DAY}(?:[ ]of)?[ -]{_MONTH}(?:,?[ -]{_YEAR})?", re.IGNORECASE
)
YEAR: Final = re.compile(rf"(?<=[\w][ -]){_YEAR}")
BEFORE_YEAR: Final = re.compile(rf"\b(?:{_BEFORE_YEAR})[ -]\Z", re.IGNORECASE)
BEFORE_YEAR_CHARS_MAX: Final = 16
MONTH_DAY: Final = re.compile(
    rf"(?<![\w-]){_MONTH}[ ](?:the[ ])?{_DAY}(?![\w:%]|[.,]\d)(?:,?[ ]{_YEAR})?", re.IGNORECASE
)
MONTH_YEAR: Final = re.compile(rf"(?<![\w-]){_MONTH}(?:[ ]of)?,?[ ]{_YEAR}", re.IGNORECASE)
MONTH: Final = re.compile(
    rf"\b(?P<month>{CLEAR_MONTHS.replace(' ', '|')}|(?<=[a-z][ -])(?:March|May))\b"
)
DECADE: Final = re.compile(
    r"(?<!\w)(?:(?P<century>1[89]|20)(?P<long>\d0)|'(?P<short>\d0)|(?P<bare>[5-9]0))'?s(?!\w)"
)
RELATIVE: Final = re.compile(
    r"\b(?:(?:the[ ])?day[ ](?:before[ ]yesterday|after[ ]tomorrow)|the[ ]other[ ](?:day|night|week)"
    r"|(?:yesterday|tomorrow)(?:[ ](?:morning|afternoon|evening|night))?|today|tonight"
    r"|(?:last|next|this|past|coming|previous|following)[ ]"
    rf"(?:{_WEEKDAY}|{_PERIOD}|{_SEASON}|morning|afternoon|evening|{_MONTH})"
    rf"|(?:every[ ])?{_WEEKDAY})\b",
    re.IGNORECASE,
)
# "Sat" and "Sun" are other words too often.
SHORT_DAY: Final = re.compile(
    r"\b(?:(?i:last|next|this|past|coming|every)[ ])?(?:Mon|Tues?|Wed|Thu(?:rs?)?|Fri)\b\.?"
)
COUNTED: Final = re.compile(
    rf"\b(?:(?P<in>in)[ ])?{_HOW_MANY}[ ](?P<period>{_PERIOD})s?"
    rf"(?P<rest>[ ](?:ago|from[ ]now|earlier|later|before|back))?\b",
    re.IGNORECASE,
)
TIME: Final = re.compile(
    r"(?<![\w:.])(?:(?P<hour>[01]?\d|2[0-3]):(?P<minute>[0-5]\d)(?::[0-5]\d(?:\.\d{1,9})?)?Z?"
    r"(?:[ ]?(?P<half>[ap])\.?m\b)?|(?P<full>0?[1-9]|1[0-2])[ ]?(?P<half2>[ap])\.?m\b)(?![:\w])",
    re.IGNORECASE,
)
STAMP: Final = re.compile(r"(?<=\dT)(?P<hour>[01]\d|2[0-3]):(?P<minute>[0-5]\d)(?::[0-5]\d)?")

DIGIT: Final = re.compile(r"\d")

# Words in their own right: as months they need a capital letter, or a year beside them.
UNCLEAR_MONTHS: Final = ("may", "mar", "march", "dec", "sept")
# Of years with two digits, those from here on are of the last century.
CENTURY_TURN: Final = 70
CENTURY: Final = 100
NOON: Final = 12
DAYS_MAX: Final = 31

Read: TypeAlias = Callable[[re.Match[str]], str | None]


def dates(text: str) -> Iterator[Thing]:
    """Find dates and times. They may overlap: what says more comes first."""
    small = text.casefold()
    figures = DIGIT.search(text) is not None
    for hints, pattern, read in READERS:
        if figures if hints is None else any(hint in small for hint in hints):
            yield from _read(text, pattern, read)


def _read(text: str, pattern: re.Pattern[str], read: Read) -> Iterator[Thing]:
    for match in pattern.finditer(text):
        key = read(match)
        if key is not None:
            yield Thing("date", *match.span(), match[0], key)


def implied(key: str) -> Iterator[str]:
    """Give every key that is said, too, by who says this one: a day tells its month and year."""
    for reading in key.split("|"):
        yield reading
        if re.fullmatch(r"\d{4}-\d\d-\d\d", reading):
            yield from (reading[:4], reading[:7], f"-{reading[4:]}", f"-{reading[4:7]}")
        elif re.fullmatch(r"\d{4}-\d\d", reading):
            yield from (reading[:4], f"-{reading[4:]}")
        elif re.fullmatch(r"--\d\d-\d\d", reading):
            yield reading[:4]


def _written(year: int | None, month: int, day: int | None) -> str | None:
    if not (1 <= month <= len(MONTHS) and (day is None or 1 <= day <= DAYS_MAX)):
        return None
    return f"{year or '-'}-{month:02}" + ("" if day is None else f"-{day:02}")


def _numeric(match: re.Match[str]) -> str | None:
    if match["year"]:
        return _written(int(match["year"]), int(match["a"]), int(match["b"]))
    year = int(match["y"])
    if year < CENTURY:
        if match["sep2"] != "/":
            return None
        year += 1900 if year >= CENTURY_TURN else 2000
    one, other = int(match["d"]), int(match["m"])
    readings = (_written(year, one, other), _written(year, other, one))
    return "|".join(sorted({reading for reading in readings if reading})) or None


def _named(match: re.Match[str]) -> str | None:
    """Read a date whose month is a word."""
    groups = match.groupdict()
    day, year = groups.get("day"), groups.get("year")
    name = match["month"]
    if name.casefold() in UNCLEAR_MONTHS and name.islower() and not year:
        return None
    month = 1 + MONTHS.index(name[:3].casefold())
    return _written(int(year) if year else None, month, int(day) if day else None)


def _year(match: re.Match[str]) -> str | None:
    """Read a year on its own; only the word before it tells it from any other number."""
    start = match.start()
    before = match.string[max(0, start - BEFORE_YEAR_CHARS_MAX) : start]
    return match["year"] if BEFORE_YEAR.search(before) else None


def _decade(match: re.Match[str]) -> str:
    decade = match["long"] or match["short"] or match["bare"]
    century = match["century"] or ("20" if decade < "30" else "19")
    return f"{century}{decade}s"


def _phrase(match: re.Match[str]) -> str:
    *before, last = match[0].casefold().removeprefix("the ").split()
    day = next((day for day in WEEKDAYS if day.startswith(last[:3])), None)
    return " ".join((*before, day or last))


def _counted(match: re.Match[str]) -> str | None:
    """Read a count of periods; without "ago" or "in" it is a length, not a date."""
    if not match["rest"] and not match["in"]:
        return None
    count = match["count"].casefold()
    if count in ("a", "an"):
        count = "1"
    elif count.isdigit():
        count = str(int(count))
    elif re.fullmatch(SPELLED, count):
        count = str(spelled_value(count))
    where = (match["rest"] or "").casefold().replace("back", "ago")
    return f"{'' if where else 'in '}{count} {match['period'].casefold()}{where}"


def _time(match: re.Match[str]) -> str:
    """Read a time of day; a small hour without its half of the day may be in either."""
    groups = match.groupdict()
    hour = int(match["hour"] or groups["full"])
    half = (groups.get("half") or groups.get("half2") or "").casefold()
    if half:
        hours = [hour % NOON + (NOON if half == "p" else 0)]
    elif 0 < hour <= NOON:
        hours = [hour % NOON, hour % NOON + NOON]
    else:
        hours = [hour]
    return "|".join(f"T{one:02}:{groups.get('minute') or '00'}" for one in hours)


# Each with words of which a text must hold one for the search to be worth it, None for a digit.
_LEADING: Final = ("last ", "next ", "this ", "past ", "coming ", "previous ", "following ")
_COUNTED: Final = ("second", "minute", "hour", "day", "night", "week", "month", "year", "decade")
READERS: Final[tuple[tuple[tuple[str, ...] | None, re.Pattern[str], Read], ...]] = (
    (None, NUMERIC, _numeric),
    (None, STAMP, _time),
    (MONTHS, DAY_MONTH, _named),
    (MONTHS, MONTH_DAY, _named),
    (MONTHS, MONTH_YEAR, _named),
    (("day", "tonight", "tomorrow", "other ", *_LEADING), RELATIVE, _phrase),
    (("mon", "tue", "wed", "thu", "fri"), SHORT_DAY, _phrase),
    (MONTHS, MONTH, _named),
    (None, YEAR, _year),
    (None, DECADE, _decade),
    (_COUNTED, COUNTED, _counted),
    (None, TIME, _time),
)
