"""The documents as tests read them: README, the topics of the manual, and their sections, tables and code blocks."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
TOPICS = {path.stem: path.read_text() for path in sorted((ROOT / "receiver" / "docs").glob("*.md"))}
EVERYTHING = {"README": README, **TOPICS}


def section(topic: str, title: str) -> str:
    """A section of a topic: from its heading to the next one of the same level."""
    begin = TOPICS[topic].index(f"\n## {title}\n")
    return TOPICS[topic][begin:].partition("\n## ")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of every row of every table, the heads left out."""
    found = re.findall(r"^\| (.*) \|$", re.sub(r"^\|.*\n\|(-+\|)+\n", "", text, flags=re.MULTILINE), re.MULTILINE)
    return [[cell.strip() for cell in row.split(" | ")] for row in found]


def names(text: str) -> list[str]:
    """What stands in backquotes."""
    return re.findall(r"`([^`]+)`", text)


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
