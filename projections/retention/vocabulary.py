"""The words that finding goes by: everything that is a list and not a rule."""

from typing import Final


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# What any sentence is made of, so that it says nothing about which sentence it was.
FUNCTION_WORDS: Final = frozenset(
    _listed("""
    a about above after again all almost also although always am an and another any anyone anything
    are around as at away back be became because been before being below between both but by came
    can cannot come could did do does doing done down during each either else enough even ever
    every everyone everything few first for from further gave get gets getting give go goes going
    gone gonna got gotta had has have having he her here hers herself him himself his how however i
    if in into is it its itself just keep kind kinda know last later least less let like look lot
    lots made make makes making many may maybe me mean might mine more most much must my myself
    need neither never next no none nor not nothing now of off often oh ok okay on once one ones
    only onto or other others our ours ourselves out over own per perhaps please put quite rather
    really said same saw say says see seem seen she should since so some someone something soon
    still such sure take than thank thanks that the their theirs them themselves then there these
    they thing things think this those though through thus till to together told too took toward
    try two under until up upon us use used using very wanna want was way we well went were what
    whatever when where whether which while who whole whom whose why will with within without
    would yeah yes yet you your yours yourself
    """)
)

# What people write with a capital all the same: interjections, calendars, titles, the net's slang.
NO_NAMES: Final = FUNCTION_WORDS | frozenset(
    _listed("""
    ah aha amazing aw aww awesome bye cheers congrats congratulations cool dear exactly glad good
    great ha haha hello hey hi hmm hooray huh hurray lol nah nice nope oh omg oops ooh ouch phew
    sounds sweet true ugh uh um welcome whoa woah woohoo wow yay yea yep yikes yup
    i'd i'll i'm i've
    monday tuesday wednesday thursday friday saturday sunday mondays tuesdays wednesdays thursdays
    fridays saturdays sundays january february march april june july august september october
    november december today tomorrow yesterday
    mon tue tues wed thu thur thurs fri
    am pm ad bc aka asap btw diy etc faq fyi idk imo irl pic pics ps rsvp tbd tbh todo tv
    mr mrs ms dr prof sir ma'am mom mum mommy dad daddy grandma grandpa
    note warning error info true false null
    """)
)

TOOLS: Final = _listed("""
    ansible ansible-playbook apk apt apt-get aws az bash brew bundle cargo chmod chown cmake composer
    conda cp crontab curl dig dnf docker docker-compose dotnet gcc gcloud gem gh git grep gunzip gzip
    helm java javac journalctl jq kubectl ln ls make mkdir mv mvn mypy mysql nano nmap npm npx openssl
    pg_dump ping pip pip3 pipx pnpm poetry psql pytest python python3 rails redis-cli rm rsync ruff
    rustc rustup scp sed sqlite3 ssh sudo systemctl tar terraform tmux touch unzip uv uvicorn vim
    wget xargs yarn zip
    """)

# Words before anything else: commands only behind a prompt, in backticks, or with a flag.
WORD_TOOLS: Final = _listed("cat cd echo export find go head kill node sleep sort source tail time")

EXTENSIONS: Final = frozenset(
    _listed("""
    avi bak bat bin bmp c cc cfg conf cpp crt cs css csv db deb diff dll doc docx env epub exe
    flac gif go gz h hpp htm html ico ini ipynb jar java jpeg jpg js json jsonl jsx key kt lock log
    lua m4a md mdx mkv mov mp3 mp4 odt ogg otf parquet patch pdf pem php pl png pptx ps1 psd py pyc
    pyi r rar rb rpm rs rst rtf scala sh so sql sqlite sqlite3 svg swift tar tex tf tgz tif tiff toml
    ts tsv tsx ttf txt vue wasm wav webm webp whl xls xlsx xml yaml yml zip zsh
    """)
)

# Products that only look like files.
NOT_FILES: Final = frozenset(
    _listed("chart.js d3.js ember.js express.js next.js node.js nuxt.js three.js vue.js")
)

# What a bare domain may end in. Two-letter countries are mostly files here: main.py, lib.rs, run.sh.
TLDS: Final = _listed("com org net edu gov mil info biz io ai dev app eu uk de fr ch nl ca au jp")

CODES: Final = _listed("""
    USD EUR GBP JPY CNY INR CHF CAD AUD NZD SEK NOK DKK PLN CZK HUF BRL MXN KRW ZAR SGD HKD RUB TRY
    BTC ETH
    """)

DIGIT_WORDS: Final = _listed("one two three four five six seven eight nine")
TEEN_WORDS: Final = _listed(
    """ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"""
)
TEN_WORDS: Final = _listed("twenty thirty forty fifty sixty seventy eighty ninety")
MONTHS: Final = _listed("jan feb mar apr may jun jul aug sep oct nov dec")
WEEKDAYS: Final = _listed("monday tuesday wednesday thursday friday saturday sunday")
