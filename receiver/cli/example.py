"""Writes an example of receiver.toml from the table of settings, with one action of each kind. Pure."""

import json
import textwrap
from collections.abc import Iterator

from receiver.model.fields import Field
from receiver.server.settings import FIELDS

WIDTH = 100
HEAD = """\
# The settings of receiver. Each stands here at its default: take away the # in front of a line to change it.
# A variable of the environment, where one is named, goes before the file. Durations are seconds, sizes are bytes.
"""
PLACEHOLDERS = {
    "public_url": "https://receiver.example.com",
    "admin_token": "at-least-16-characters",
    "view_token": "another-of-16-characters",
    "runninghub.api_key": "the-key-of-your-account",
}
"""What is shown for a setting that has no default."""
ACTIONS = """\

# What happens when a task ends. With none of these, every result file is saved below results/.
# All have: name; on = how the task ended (succeeded, failed, cancelled, rejected), default ["succeeded"];
# when = which tasks (target is an endpoint or an id); after = names of actions that must be done first; timeout,
# lease (60), max_attempts (12; 40 for downloads) and concurrency (4); rate = attempts begun per second, default any;
# breaker = actions that fail in a row before all wait for a trial that succeeds (10; 0 is never); unconfirmed =
# whether it may run before RunningHub has confirmed the end, by default downloads alone; allow_private = whether it
# may reach private addresses; include_input = whether it gets what was ordered (true).

# Saves the result files. Tried for as long as RunningHub's links live. files is their place below the directory, of
# {task}, {name}, {index}, {ext}, {date}, {kind}, {target}, {provider_task_id}, {node} and {label.X}; max_size is bytes
# of one file.
#[[actions]]
#name = "keep"
#kind = "download"
#directory = "results"
#files = "{task}/{name}"
#max_size = 4294967296

# Posts the event as JSON, signed by Standard Webhooks when there is a secret.
#[[actions]]
#name = "tell-the-shop"
#kind = "http"
#url = "https://shop.example.com/hooks/runninghub"
#secret = "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQ="
#headers = { X-Source = "receiver" }
#body = { text = "{task.target} {task.state}: {results.0.url}" }    # instead of the event; see `receiver docs actions`
#on = ["succeeded", "failed", "cancelled", "rejected"]
#when = { labels = { project = "shop" }, target = "rhart-image*" }
#allow_private = false

# Runs a program without a shell: the event as JSON on its standard input.
#[[actions]]
#name = "notify"
#kind = "command"
#command = ["notify-send", "a task has failed"]
#on = ["failed"]
#timeout = 30

# Calls a Python function, sync or async, with the event as its argument.
#[[actions]]
#name = "index"
#kind = "python"
#function = "myproject.hooks:on_success"
#after = ["keep"]
#rate = 5
#breaker = 10
"""


def example_toml() -> str:
    """A receiver.toml that changes nothing until a line of it is uncommented."""
    tables: dict[str, list[Field]] = {"": []}
    for field in FIELDS:
        tables.setdefault(field.table, []).append(field)
    return "\n".join([HEAD, *(line for name, fields in tables.items() for line in _table(name, fields))]) + ACTIONS


def _table(name: str, fields: list[Field]) -> Iterator[str]:
    if name:
        yield f"[{name}]"
    for field in fields:
        variables = f" ({' or '.join(field.variables)})" if field.variables else ""
        comment = field.help[:1].upper() + field.help[1:] + variables
        yield from textwrap.wrap(comment, WIDTH, initial_indent="# ", subsequent_indent="# ")
        # For texts, numbers, truth values and lists of them, JSON is TOML.
        yield f"#{field.name} = {json.dumps(PLACEHOLDERS.get(field.key, field.default))}"
        yield ""
