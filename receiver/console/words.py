"""The console's texts in the languages it speaks: English is written in the pages, Chinese stands in zh.toml."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from receiver.model.records import ActionState, AlertKind, ReplayMode, TaskState
from receiver.model.remedies import GIVE_KEY, PLACE, REMEDIES, RESTART, UNREADY
from receiver.model.sentences import STATES

ENGLISH, CHINESE = "en", "zh"
LANGUAGES: Mapping[str, str] = {ENGLISH: "English", CHINESE: "中文"}

ALERTS: Mapping[AlertKind, str] = {
    AlertKind.ACTION_DEAD: "Actions are dead",
    AlertKind.BREAKER_OPEN: "A target does not work",
    AlertKind.CALLBACK_MISSED: "Callbacks do not arrive",
    AlertKind.EVENT_CONTRADICTED: "A callback was not true",
    AlertKind.ID_TAKEN: "Two tasks have one id",
    AlertKind.DEFINITION_MISSING: "An action is not configured any more",
    AlertKind.ELSEWHERE: "Tasks are at another site",
    AlertKind.DISK_LOW: "The disk is nearly full",
    AlertKind.KEY_REFUSED: "RunningHub refuses the API key",
    AlertKind.LINKS_EXPIRING: "Results are not saved, and their links die",
    AlertKind.MOVED: "RunningHub has moved",
    AlertKind.STORE_REFUSED: "The database could not be written",
    AlertKind.TASK_IN_DOUBT: "A task is in doubt",
    AlertKind.TASK_LOST: "A task is lost",
    AlertKind.TASK_OVERDUE: "A task runs for very long",
    AlertKind.TASK_UNREADABLE: "A task cannot be read",
    AlertKind.UNREACHABLE: "RunningHub cannot be reached",
}
WRONG: Mapping[str, str] = {
    **{kind.value: title for kind, title in ALERTS.items()},
    "unready": "The server cannot do its work",
    "no_api_key": "There is no API key",
}
"""What is wrong, in a few words, by its kind."""
MODES: Mapping[ReplayMode, str] = {
    ReplayMode.RETRY: "Try the same actions again, under the same idempotency keys.",
    ReplayMode.AGAIN: "Run today's actions anew under NEW idempotency keys: the receiver will act twice.",
    ReplayMode.MISSING: "Run only the actions that a task does not have yet.",
    ReplayMode.REPROCESS: "Read the kept callbacks anew. No action runs that has run already.",
}
STATE_WORDS = ("open", "closed", "acknowledged", "paused", "readable", "unreadable", "contradicting", "unconfirmed")
SPOKEN = frozenset(
    (
        *(state.value.replace("_", " ") for state in (*TaskState, *ActionState)),
        *("searching", "half open", "gone", "retry", "interrupted", "returned"),
        *STATE_WORDS,
        *STATES.values(),
        *WRONG.values(),
        *REMEDIES.values(),
        *UNREADY.values(),
        RESTART,
        GIVE_KEY,
        *MODES.values(),
    )
)
"""Texts that pages take from elsewhere and translate."""


def _patterns() -> Iterator[tuple[re.Pattern[str], str]]:
    for text in REMEDIES.values():
        first, *rest = PLACE.split(text)[::2]
        if rest:
            yield re.compile("(.+?)".join(map(re.escape, (first, *rest)))), text


PATTERNS = tuple(_patterns())
"""What to do about something, with the place of its subject open."""


def translated(text: str, translate: Callable[[str], str]) -> str:
    """A sentence in another language; the subject that was put into one stays where it belongs."""
    for pattern, original in PATTERNS:
        if found := pattern.fullmatch(text):
            return PLACE.sub(lambda _: found[1], translate(original))
    return translate(text)


def chinese() -> dict[str, str]:
    """English texts with what they are in Chinese."""
    return msgspec.toml.decode((Path(__file__).parent / "zh.toml").read_bytes(), type=dict[str, str])


def language_of(cookie: str | None, accepted: str) -> str:
    """The language somebody chose, or else the first one of theirs that is spoken here."""
    if cookie is not None and cookie in LANGUAGES:
        return cookie
    for part in accepted.split(","):
        word = part.strip()[:2].lower()
        if word in LANGUAGES:
            return word
    return ENGLISH
