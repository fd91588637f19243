"""What the sweeps have in common: the checkout, its tracked files, its pages."""

import re
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


@cache
def tracked():
    """Every file that git keeps, relative to the top; outside a checkout every file but caches."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
        )
        found = [Path(name) for name in listed.stdout.split("\0") if name]
    else:
        found = [path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file()]
    return [
        path for path in found if (ROOT / path).is_file() and not {".venv", "__pycache__"} & set(path.parts)
    ]


def text(path):
    return (ROOT / path).read_text(encoding="utf-8")


def pages():
    """Everything that a person reads: the pages at the top, in docs, in deploy and of the client."""
    return [path for path in tracked() if path.suffix == ".md"]


def heading(page, level):
    """The headings of one level on a page."""
    return re.findall(rf"^{'#' * level} (.+)$", text(page), re.MULTILINE)


def rows(page):
    """The first cell of each row of a page's tables, without its backquotes."""
    return re.findall(r"^\| `([^`|]+)`[^|]*\|", text(page), re.MULTILINE)
