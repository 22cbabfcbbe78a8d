"""Numbers and money.

1,000, 1000, "1 thousand", "one thousand" and 1k are one number, and so are 5 and "five"; $20,
"USD 20" and "20 dollars" are one sum. Points divide and commas group, but a comma before one or two
digits divides, too (1.234,50). Percentages and ordinals are numbers of their own. A lone "one" is a
pronoun, and a unit no part of its number.
"""

import re
from collections.abc import Iterable, Iterator
from decimal import Context, Decimal
from typing import Final

from projections.retention.things import Thing
from projections.retention.vocabulary import CODES, DIGIT_WORDS, TEEN_WORDS, TEN_WORDS

# A longer row of digits is no quantity, and its product with a scale must stay exact.
DIGITS_MAX: Final = 30
EXACT: Final = Context(prec=DIGITS_MAX + 30)

SCALES: Final = {
    "hundred": 100,
    "thousand": 1_000,
    "million": 1_000_000,
    "billion": 1_000_000_000,
    "trillion": 1_000_000_000_000,
    "k": 1_000,
    "m": 1_000_000,
    "bn": 1_000_000_000,
}
DIGITS: Final = {word: value for value, word in enumerate(DIGIT_WORDS, 1)}
TEENS: Final = {word: value for value, word in enumerate(TEEN_WORDS, 10)}
TENS: Final = {word: 10 * value for value, word in enumerate(TEN_WORDS, 2)}
WORDS: Final = {"zero": 0, **DIGITS, **TEENS, **TENS}

_DIGIT: Final = "|".join(DIGITS)
_UNDER_100: Final = rf"(?:(?:{'|'.join(TENS)})(?:[- ](?:{_DIGIT}))?|{'|'.join(TEENS)}|{_DIGIT})"
_UNDER_1000: Final = rf"(?:{_UNDER_100}(?:[- ]hundred(?:(?:[ ]and)?[ ]{_UNDER_100})?)?)"
SCALE_WORDS: Final = ("thousand", "million", "billion", "trillion")
_SCALE: Final = "|".join(SCALE_WORDS)
SPELLED: Final = (
    rf"(?:zero|{_UNDER_1000}(?:[- ](?:{_SCALE})(?:(?:,?[ ]|[ ]and[ ]){_UNDER_1000})?){{0,3}})\b"
)
FIGURES: Final = (
    rf"(?:\d{{1,3}}(?:\.\d{{3}}){{0,8}},\d{{1,2}}"
    rf"|\d{{1,3}}(?:,\d{{3}}){{1,9}}(?:\.\d{{1,{DIGITS_MAX}}})?"
    rf"|\d{{1,{DIGITS_MAX}}}(?:\.\d{{1,{DIGITS_MAX}}})?)(?![.,]?\d)"
)
SCALED: Final = rf"(?:[ -]?(?:hundred|{_SCALE})\b|(?:k|(?-i:M)|bn)\b)?"
# What may stand right behind a figure: a short unit ("5km"), but no other letters.
UNIT: Final = r"(?:[^\W\d_]{1,4})?(?![\w])"
_PERCENT: Final = "[ ]percent|[ ]per[ ]cent"
IN_FIGURES: Final = re.compile(
    rf"(?<![\w.,])(?P<sign>(?<![)\]'\"-])-)?(?P<figures>{FIGURES})"
    rf"(?P<kind>(?:st|nd|rd|th)\b|[ ]?%|(?:{_PERCENT})\b)?(?(kind)|(?P<scale>{SCALED}){UNIT})",
    re.IGNORECASE,
)
IN_WORDS: Final = re.compile(
    rf"(?<![\w-])(?P<spelled>{SPELLED})(?P<share>(?:{_PERCENT})\b)?", re.IGNORECASE
)
# What a text must hold for a search to be worth it: parts of all words that begin a number, but for
# "one", which is none on its own.
DIGIT: Final = re.compile(r"\d")
WORD_PARTS: Final = (
    "hundred",
    *(word for word in WORDS if word != "one"),
    *SCALE_WORDS,
    "percent",
    "per cent",
)
ORDINAL: Final = re.compile("st|nd|rd|th", re.IGNORECASE)

SIGNS: Final = {
    "$": "USD",
    "us$": "USD",
    "€": "EUR",
    "£": "GBP",
    "¥": "JPY",
    "₹": "INR",
    "₽": "RUB",
}
# "Pounds" are left out: in conversations they are weight more often than money.
CURRENCY_WORDS: Final = {
    **dict.fromkeys(("dollar", "dollars", "buck", "bucks"), "USD"),
    **dict.fromkeys(("euro", "euros"), "EUR"),
    **dict.fromkeys(("quid", "pounds sterling"), "GBP"),
    "yen": "JPY",
    "yuan": "CNY",
    **dict.fromkeys(("rupee", "rupees"), "INR"),
}
CURRENCIES: Final = {**SIGNS, **{code.casefold(): code for code in CODES}, **CURRENCY_WORDS}
_CODE: Final = f"(?-i:{'|'.join(CODES)}|usd|eur|gbp)"
_SIGN: Final = "|".join(re.escape(sign) for sign in sorted(SIGNS, key=len, reverse=True))
MONEY: Final = re.compile(
    rf"(?<![\w$])(?P<before>{_SIGN}|{_CODE}\b)[ ]?"
    rf"(?P<figures>{FIGURES})(?P<scale>{SCALED}|m\b)(?!\w)"
    rf"|(?<![\w.,-])(?:(?P<behind>{FIGURES})(?P<scaled>{SCALED}|m\b)|(?P<spelled>{SPELLED}))[ -]?"
    rf"(?P<after>{_SIGN}|{_CODE}\b|(?:{'|'.join(CURRENCY_WORDS)})\b)",
    re.IGNORECASE,
)
# What a text must hold for the search to be worth it.
CODE: Final = re.compile(r"\b[A-Z]{3}\b")
MONEY_PARTS: Final = (*SIGNS, *CURRENCY_WORDS, "usd", "eur", "gbp")
DIVIDING_COMMA: Final = re.compile(r",\d{1,2}$")


def numbers(text: str) -> Iterator[Thing]:
    """Find numbers in figures and in words."""
    if DIGIT.search(text) is not None:
        for match in IN_FIGURES.finditer(text):
            value = written(value_of(match["figures"], match["scale"] or ""))
            key = f"{match['sign'] or ''}{value}{_suffix(match['kind'])}"
            yield Thing("number", *match.span(), match[0], key)
    if _holds(text, WORD_PARTS):
        for match in IN_WORDS.finditer(text):
            if match[0].casefold() != "one":
                key = written(spelled_value(match["spelled"])) + ("%" if match["share"] else "")
                yield Thing("number", *match.span(), match[0], key)


def money(text: str) -> Iterator[Thing]:
    """Find sums of money, in a currency named by its sign, code or word."""
    if CODE.search(text) is None and not _holds(text, MONEY_PARTS):
        return
    for match in MONEY.finditer(text):
        currency = CURRENCIES[(match["before"] or match["after"]).casefold()]
        if match["spelled"] is not None:
            value = spelled_value(match["spelled"])
        elif match["figures"] is not None:
            value = value_of(match["figures"], match["scale"])
        else:
            value = value_of(match["behind"], match["scaled"])
        yield Thing("money", *match.span(), match[0], f"{currency} {written(value)}")


def value_of(figures: str, scale: str) -> Decimal:
    """Read figures as they are written, times the scale that follows them."""
    if DIVIDING_COMMA.search(figures):
        figures = figures.replace(".", "").replace(",", ".")
    factor = SCALES[scale.strip(" -").casefold()] if scale else 1
    return EXACT.multiply(Decimal(figures.replace(",", "")), Decimal(factor))


def spelled_value(words: str) -> Decimal:
    """Read a number in words."""
    total = group = 0
    for word in re.findall(r"[a-z]+", words.casefold()):
        if word == "hundred":
            group *= SCALES[word]
        elif word in SCALES:
            total, group = total + group * SCALES[word], 0
        elif word != "and":
            group += WORDS[word]
    return Decimal(total + group)


def written(value: Decimal) -> str:
    """Write a value in the one way that is compared."""
    text = f"{value:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


def _suffix(kind: str | None) -> str:
    if not kind:
        return ""
    return "th" if ORDINAL.fullmatch(kind) else "%"


def _holds(text: str, parts: Iterable[str]) -> bool:
    text = text.casefold()
    return any(part in text for part in parts)
