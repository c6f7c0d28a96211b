"""What an operator can do about what is wrong, a sentence each. The manual's topic `operating` says more. Pure."""

import re
from collections.abc import Mapping

from receiver.model.records import AlertKind

REMEDIES: Mapping[AlertKind, str] = {
    AlertKind.ACTION_DEAD: "mend what it names, then: receiver replay --name NAME",
    AlertKind.BREAKER_OPEN: "mend its target; to try at once: receiver actions resume NAME",
    AlertKind.CALLBACK_MISSED: "make the public URL reach this server; the results are fetched all the same",
    AlertKind.EVENT_CONTRADICTED: "if a callback URL has leaked: receiver secrets rotate",
    AlertKind.ID_TAKEN: "look for the task on RunningHub's site, then: receiver submit-again ID",
    AlertKind.DEFINITION_MISSING: "put it back and restart, or skip what waits: receiver actions --name NAME",
    AlertKind.ELSEWHERE: "set runninghub.base_url and the key back until these tasks have ended",
    AlertKind.DISK_LOW: "free space on the disk; downloads go on by themselves",
    AlertKind.KEY_REFUSED: "check runninghub.api_key, and that runninghub.base_url is the key's own site",
    AlertKind.LINKS_EXPIRING: "find out why saving fails before the links die: receiver actions --state owed",
    AlertKind.MOVED: "set runninghub.base_url to the address in the alert",
    AlertKind.STORE_REFUSED: "free the disk, put the file back, or end the program that locks it",
    AlertKind.TASK_IN_DOUBT: "wait for its callback, or look on RunningHub's site; then: receiver submit-again ID",
    AlertKind.TASK_LOST: "ask once more: receiver reconcile ID, or receiver resend ID",
    AlertKind.TASK_OVERDUE: "look on RunningHub's site; to end it: receiver cancel ID",
    AlertKind.TASK_UNREADABLE: "start the newer version of receiver again",
    AlertKind.UNREACHABLE: "nothing: tasks wait, and go on when RunningHub answers",
}
UNREADY: Mapping[str, str] = {
    "disk_low": "free space on the disk; the server goes on by itself",
    "disk_full": "free space on the disk; the server goes on by itself",
    "locked": "end the other program that writes to the database",
    "database_gone": "put the same database file back, or stop the server and start it with the right one",
    "log_gone": "stop the server, which saves the log's content, and start it again",
    "lock_gone": "two servers use the database: stop one of them",
    "stopping": "the server is being stopped; start it again",
}
GIVE_KEY = "set RUNNINGHUB_API_KEY and start the server again"
RESTART = "start the server again; its log says what broke"
PLACE = re.compile(r"\b(NAME|ID)\b")
"""Stands for what an alert is about: the name of a definition, or the id of a task."""


def remedy(kind: AlertKind, subject: str) -> str:
    """What to do about an alert, with its subject in its place so that a command can be copied."""
    return PLACE.sub(lambda _: subject, REMEDIES.get(kind, "receiver docs operating"))


def unready(reason: str) -> str:
    """What to do about a reason why the server cannot do its work."""
    return UNREADY.get(reason, RESTART)
