"""Logging: one line per outcome on standard error, redacted; JSON when nobody is looking at a terminal."""

import logging
import sys
from collections.abc import MutableMapping
from typing import TextIO

import structlog

from receiver.model.redaction import Redactor

LOUD_LIBRARIES = ("httpx", "httpcore", "uvicorn.access", "asyncio")
"""Their lines hold full URLs, and so tokens, or are noise."""


def configure_logging(stream: TextIO = sys.stderr, level: int = logging.INFO) -> None:
    """Everything, ours and the libraries', goes through one formatter to `stream`. No secret is known yet."""
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in LOUD_LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("stamina").setLevel(
        logging.ERROR
    )  # a read that is tried again is no event; a failed one is a check
    redact_logs(Redactor([]))
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def redact_logs(redact: Redactor) -> None:
    """From now on every line of every logger is masked by `redact`."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setFormatter(_formatter(redact, terminal=handler.stream.isatty()))


class _Masked(structlog.stdlib.ProcessorFormatter):
    """A formatter whose last step masks the whole line, tracebacks included."""

    def __init__(self, redact: Redactor, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        return self._redact.text(super().format(record))


def _formatter(redact: Redactor, *, terminal: bool) -> logging.Formatter:
    renderer = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    return _Masked(
        redact,
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _without_none,
            structlog.processors.format_exc_info,
            renderer,
        ],
    )


def _without_none(_: object, __: str, event: MutableMapping[str, object]) -> MutableMapping[str, object]:
    return {name: value for name, value in event.items() if value is not None}
