"""Logging: one line per outcome on standard error, redacted; JSON when nobody is looking at a terminal."""

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import TextIO

import structlog

from receiver.model.redaction import Redactor
from receiver.server.settings import LogFormat

LOUD_LIBRARIES = ("httpx", "httpcore", "uvicorn.access", "asyncio")
"""Their lines hold full URLs, and so tokens, or are noise."""
EVENT_WIDTH = 6
"""Letters of `action`: the lines about tasks and actions stand below one another."""
LEVEL, TIME = structlog.stdlib.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)


class _Handler(logging.StreamHandler[TextIO]):
    """Writes lines in a format."""

    def __init__(self, stream: TextIO, form: LogFormat) -> None:
        super().__init__(stream)
        self.terminal = terminal = stream.isatty()
        self.coloured = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.as_text = terminal if form is LogFormat.AUTO else form is LogFormat.TEXT


def configure_logging(stream: TextIO = sys.stderr, level: int = logging.INFO, form: LogFormat = LogFormat.AUTO) -> None:
    """Everything, ours and the libraries', goes through one formatter to `stream`. No secret is known yet."""
    handler = _Handler(stream, form)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in LOUD_LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
    # A read that is tried again is no event; a failed one is a check.
    logging.getLogger("stamina").setLevel(logging.ERROR)
    redact_logs(Redactor([]))
    structlog.configure(
        processors=[LEVEL, TIME, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )


def redact_logs(redact: Redactor) -> None:
    """From now on every line of every logger is masked by `redact`."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Handler):
            handler.setFormatter(_formatter(redact, handler))


def _formatter(redact: Redactor, handler: _Handler) -> logging.Formatter:
    text = structlog.dev.ConsoleRenderer(colors=handler.coloured, pad_event_to=EVENT_WIDTH, pad_level=False)
    renderer = text if handler.as_text else structlog.processors.JSONRenderer()
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[LEVEL, structlog.stdlib.add_logger_name, TIME],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _without_none,
            structlog.processors.format_exc_info,
            *([_time_of_day] if handler.terminal and handler.as_text else []),
            renderer,
            lambda _, __, line: redact.text(str(line)),  # last: the whole line, tracebacks included
        ],
    )


def _time_of_day(_: object, __: str, event: MutableMapping[str, object]) -> MutableMapping[str, object]:
    """Whoever looks on knows the day, and has little room."""
    return {**event, "timestamp": f"{str(event['timestamp'])[11:19]}Z"}


def _without_none(_: object, __: str, event: MutableMapping[str, object]) -> MutableMapping[str, object]:
    return {name: value for name, value in event.items() if value is not None}
