"""What an action that saves result files is configured with. Pure."""

from collections.abc import Sequence
from typing import Annotated

from receiver.actions.download.names import template_problem
from receiver.model.definitions import ActionKind, Attempts, Definition, Seconds
from receiver.model.fields import SHOWN, Setting, more_than_0


def _template_problems(template: str) -> list[str]:
    problem = template_problem(template)
    return [f"files: {problem}, got {template[:SHOWN]!r}"] if problem else []


class DownloadDefinition(Definition, frozen=True, kw_only=True):
    """Saves every result file below `directory`, under a path made by `files`. `max_size` of a file is in bytes.

    40 attempts, an hour apart at the most, are about as many as fit into the day that result links live.
    """

    kind: ActionKind = ActionKind.DOWNLOAD
    timeout: Seconds = 900.0
    max_attempts: Attempts = 40
    unconfirmed: bool = True
    directory: str = "results"
    files: Annotated[str, Setting(problems=_template_problems)] = "{task}/{name}"
    max_size: Annotated[int, Setting(more_than_0())] = 4 * 1024**3

    def conflict(self, others: Sequence[Definition]) -> str | None:
        """Downloads into one directory name files alike, or one might take the other's file for its own."""
        for other in others:
            if isinstance(other, DownloadDefinition) and _same(self.directory, other.directory):
                return (
                    None
                    if other.files == self.files
                    else f"files: {other.name} names files in {self.directory} otherwise"
                )
        return None


def _same(one: str, other: str) -> bool:
    return one.removeprefix("./").rstrip("/") == other.removeprefix("./").rstrip("/")
