"""What the door wants to know of a callback, read at a tenth of the cost where nothing in it is unusual.

The usual shapes are declared whole and decoded into nothing else, so that no byte is skipped: whatever differs in any
way from them, `wire.read_callback` reads. Both find the same in any bytes; a property test holds that.
"""

import msgspec
from msgspec import Struct

from receiver.model.records import End
from receiver.model.rules import READ_AT_ONCE
from receiver.runninghub.wire import ENDS, read_callback, read_id

Scalar = str | int | float | None


class Hint(Struct, frozen=True):
    """The provider's id that a callback names, and the end that it claims; None where it does not."""

    task_id: str | None = None
    end: End | None = None


class _Whole(Struct, forbid_unknown_fields=True, gc=False):
    """A shape of which every field is known."""


class _Usage(_Whole):
    consumeMoney: Scalar = None
    consumeCoins: Scalar = None
    taskCostTime: Scalar = None
    thirdPartyConsumeMoney: Scalar = None


class _Child(_Whole):
    taskId: Scalar = None
    parentTaskId: Scalar = None
    taskStatus: Scalar = None
    usage: _Usage | None = None


class _Result(_Whole):
    url: Scalar = None
    outputType: Scalar = None
    text: Scalar = None
    nodeId: Scalar = None


class _Task(_Whole):
    """A V2 task object (page "Query generation result (V2)", and captures of callbacks)."""

    status: str
    taskId: Scalar = None
    errorCode: str = ""
    errorMessage: Scalar = None
    results: list[_Result] | None = None
    failedReason: _Whole | None = None
    usage: _Usage | None = None
    clientId: Scalar = None
    promptTips: Scalar = None
    parentTaskId: Scalar = None
    taskUsageList: list[_Child] | None = None


class _Output(_Whole):
    fileUrl: Scalar = None
    fileType: Scalar = None
    taskCostTime: Scalar = None
    nodeId: Scalar = None


class _Outputs(_Whole):
    """The text in a V1 callback (page "Check Task Output"); a code of 0 says that the task succeeded."""

    code: int
    msg: Scalar = None
    data: list[_Output] | None = None


class _Callback(_Whole):
    taskId: str
    eventData: _Task | str
    event: Scalar = None


_CALLBACK, _OUTPUTS = msgspec.json.Decoder(_Callback), msgspec.json.Decoder(_Outputs)


def read_hint(body: bytes) -> Hint:
    """The id and the end that `read_callback` finds in a body. Raises Unreadable where that does."""
    hint = usual(body)
    if hint is None:
        report = read_callback(body)
        hint = Hint(report.task_id, report.end)
    return hint


def usual(body: bytes) -> Hint | None:
    """The same of a body in which nothing is unusual, its size neither; None for any other."""
    if len(body) > READ_AT_ONCE:
        return None
    try:
        callback = _CALLBACK.decode(body)
        task_id, end = read_id(callback.taskId), _end(callback.eventData)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return Hint(task_id, end) if task_id is not None and end is not None else None


def _end(data: _Task | str) -> End | None:
    """None where more has to be looked at."""
    if isinstance(data, str):
        return End.SUCCEEDED if _OUTPUTS.decode(data).code == 0 else None
    end = ENDS.get(data.status)
    return None if end is End.SUCCEEDED and data.errorCode else end
