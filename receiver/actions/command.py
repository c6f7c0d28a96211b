"""The action that runs a program: argument list, event document on stdin, never a shell."""

import asyncio
import errno
import os
import signal
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from receiver.actions import ActionFailed, Done, Work, cause, quoted, readable
from receiver.actions.child import TERM_GRACE, Child, ExitStatus
from receiver.actions.settings import CommandDefinition
from receiver.model.records import JsonObject

SECRET_VARIABLES = frozenset(
    {"RUNNINGHUB_API_KEY", "RECEIVER_SECRETS", "RECEIVER_ADMIN_TOKEN", "RECEIVER_DATABASE", "DATABASE_URL"}
)

LAST_WORDS = 200
"""Letters of the last line of standard error that are told as the reason; all of it stands in the attempt."""


class Runner(Struct, frozen=True):
    """Exit code 0 is done, any other is tried again. `environment` is the server's own (None: as it is then).

    A program that is stopped has `grace` seconds to end by itself.
    """

    environment: Mapping[str, str] | None = None
    grace: float = TERM_GRACE

    async def __call__(self, work: Work) -> Done:
        assert isinstance(work.definition, CommandDefinition)
        argv = work.definition.command
        if not argv or not argv[0]:
            raise ActionFailed("`command` is empty", permanent=True)
        started = asyncio.get_running_loop().time()
        try:
            child = Child(self.grace, work.note_process)
            status = await _run(child, argv, msgspec.json.encode(work.body), self._variables(work))
        except (FileNotFoundError, NotADirectoryError):
            raise ActionFailed(f"there is no program {quoted(argv[0])}", permanent=True) from None
        except (OSError, ValueError) as error:
            permanent = not isinstance(error, OSError) or error.errno in (errno.EACCES, errno.EPERM, errno.ENOEXEC)
            raise ActionFailed(f"{quoted(argv[0])} cannot be run: {cause(error)}", permanent=permanent) from error
        return _judged(status, asyncio.get_running_loop().time() - started)

    def _variables(self, work: Work) -> dict[str, str]:
        given = os.environ if self.environment is None else self.environment
        return {
            **{name: value for name, value in given.items() if name not in SECRET_VARIABLES},
            "RECEIVER_TASK_ID": work.task_id,
            "RECEIVER_EVENT_TYPE": str(work.body.get("type", "")),
            "RECEIVER_ACTION_NAME": work.definition.name,
            "RECEIVER_ATTEMPT": str(work.attempt),
            "RECEIVER_IDEMPOTENCY_KEY": work.key,
        }


async def _run(child: Child, argv: tuple[str, ...], stdin: bytes, environment: Mapping[str, str]) -> ExitStatus:
    """When cancelled, end the group and wait for that; when cancelled again, kill it and go."""
    running = asyncio.create_task(child.run(argv, stdin, environment))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError as cancelled:
        child.stop()
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError:
            child.kill()
            raise
        if not running.cancelled() and running.exception() is None:
            cancelled.add_note(f"the program and all it started were ended ({_ending(running.result().code)})")
        raise


def _judged(status: ExitStatus, seconds: float) -> Done:
    detail: JsonObject = {
        "exit_code": status.code,
        "seconds": round(seconds, 3),
        "stdout": readable(status.out),
        "stderr": readable(status.err),
    }
    if status.code == 0:
        return Done(detail=detail)
    raise ActionFailed(f"the program ended with {_ending(status.code)}{_last_words(status.err)}", detail=detail)


def _last_words(err: bytes) -> str:
    """The last line that it wrote to its standard error, where programs say why."""
    lines = readable(err).strip().splitlines()
    return f": {lines[-1].strip()[:LAST_WORDS]}" if lines else ""


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
