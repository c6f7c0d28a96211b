"""The manual on the command line. Its topics are the Markdown files in receiver/docs/."""

import re
import sys

import click

from receiver.cli.outcome import USED_WRONGLY, Ended
from receiver.cli.show import document, note, table

LINK = re.compile(r"\[([^]]+)\]\(([a-z-]+)\.md\)")
"""A link from one topic to another."""
WIDEST = 120
"""Columns of a terminal that are used at most: longer lines are hard to read."""


@click.command()
@click.argument("topic", default="")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
def docs(topic: str, as_json: bool) -> None:
    """Show a topic of the manual, or list the topics.

    It is formatted on a terminal, and plain Markdown in a pipe or a file. No server is needed.

    \b
    Examples:
      receiver docs
      receiver docs operating
      receiver docs actions | less
    """
    topics = read_topics()
    if not topic:
        _list(topics, as_json)
        return
    if topic.lower() not in topics:
        raise _unknown(topic, list(topics))
    text = with_commands(topics[topic.lower()])
    if as_json:
        document({"topic": topic.lower(), "summary": summary(text), "text": text})
    elif sys.stdout.isatty():
        draw(text)
    else:
        click.echo(text, nl=False)


def read_topics() -> dict[str, str]:
    """Each topic's name and text, in alphabetical order."""
    from importlib.resources import files

    pages = {page.name: page for page in (files("receiver") / "docs").iterdir() if page.name.endswith(".md")}
    return {name.removesuffix(".md"): pages[name].read_text("utf-8") for name in sorted(pages)}


def summary(text: str) -> str:
    """A topic in one line: the paragraph below its title."""
    return " ".join(text.split("\n\n")[1].split())


def with_commands(text: str) -> str:
    """The text with links to other topics as the commands that show them: nobody can click on a file's name here."""
    return LINK.sub(r"\1 (`receiver docs \2`)", text)


def draw(text: str, file: object = None) -> None:
    """Prints Markdown for a terminal."""
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console(file=file, highlight=False)  # type: ignore[arg-type]
    console.print(Markdown(text, code_theme="ansi_dark"), width=min(console.width, WIDEST))


def _list(topics: dict[str, str], as_json: bool) -> None:
    rows = [(name, summary(text)) for name, text in topics.items()]
    if as_json:
        document({"items": [{"topic": name, "summary": about} for name, about in rows], "next": None})
    else:
        table(("topic", "what it covers"), rows)
        note("read one with `receiver docs TOPIC`")


def _unknown(topic: str, known: list[str]) -> Ended:
    from difflib import get_close_matches

    near = [name for name in known if name.startswith(topic.lower())] or get_close_matches(topic.lower(), known, 1)
    meant = f"; did you mean {near[0]}?" if near else ""
    return Ended(f"there is no topic {topic[:60]!r}{meant}", USED_WRONGLY, [f"the topics are {', '.join(known)}"])
