"""What the sweeps have in common: the checkout, its tracked files, its pages."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

MADE = {
    ".venv",
    ".git",
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".hypothesis",
    "dist",
    "build",
}
ROOT = Path(__file__).parents[2]


@cache
def tracked():
    """Every file that git keeps, relative to the top; where there is no git, every file but what is made here."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        found = [Path(name) for name in listed.stdout.split("\0") if name]
    else:
        found = [path.relative_to(ROOT) for path in ROOT.rglob("*")]
    return [path for path in found if (ROOT / path).is_file() and not MADE & set(path.parts)]


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
