"""`receiver simulate`: the provider's API on a port of this machine, with the faults one wishes for."""

import shlex
from collections.abc import Iterator
from dataclasses import Field, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, get_args

import click

from receiver.cli.outcome import cannot_listen
from receiver.cli.show import clean

if TYPE_CHECKING:
    from receiver.simulator import Options
    from receiver.simulator.workflows import Workflow


class Simulate(click.Command):
    """A command whose options are the simulator's settings, read on demand: the simulator is slow to import."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        from receiver.simulator import Options

        if not self.params:
            self.params = [_option(each) for each in fields(Options) if each.metadata]
        return super().get_params(ctx)


def _option(setting: Field[Any]) -> click.Option:
    default, facts = setting.default, setting.metadata
    return click.Option(
        [f"--{setting.name.replace('_', '-')}"],
        type=_type_of(setting),
        is_flag=setting.type is bool,
        default=",".join(map(str, default)) if isinstance(default, tuple) else default,
        show_default="fault" not in facts,
        metavar=facts.get("metavar"),
        help=facts["help"],
    )


def _type_of(setting: Field[Any]) -> Any:  # noqa: ANN401 (whatever click takes for a type)
    """How click reads the option's text: seconds, one of some choices, a number within bounds, or as it is."""
    facts, kind = setting.metadata, next(iter(get_args(setting.type)), setting.type)
    if isinstance(setting.default, tuple):
        return _seconds
    if "choices" in facts:
        return click.Choice(facts["choices"])
    if "least" not in facts:
        return kind
    return (click.IntRange if kind is int else click.FloatRange)(facts["least"], facts.get("most"))


def _seconds(text: str) -> tuple[float, ...]:
    """Numbers of seconds, which are separated by commas."""
    try:
        seconds = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        seconds = (-1.0,)
    if any(not 0 <= each < float("inf") for each in seconds):
        raise click.BadParameter(f"expected seconds separated by commas, such as 30,30,30, got {text!r}")
    return seconds


@click.command(cls=Simulate)
def simulate(**given: Any) -> None:  # noqa: ANN401 (the simulator's options, by name)
    """Serve a RunningHub of one's own: nothing costs money, and everything may go wrong.

    \b
    Example:
      receiver simulate --port 8099 --task-seconds 2 --drop 0.3 --duplicate 0.2
      RUNNINGHUB_BASE_URL=http://127.0.0.1:8099 RUNNINGHUB_API_KEY=any \\
          receiver serve
    """
    from receiver.simulator import Options, create_app
    from receiver.web.server import listen

    options = Options(**given)
    try:
        listener = listen(options.host, options.port)
    except OSError as error:
        raise cannot_listen(options.host, options.port, error) from error
    import uvicorn

    for line in introduction(options):
        click.echo(line)
    app = create_app(options, note=_log)
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2)
    with listener:
        uvicorn.Server(config).run(sockets=[listener])


def introduction(options: "Options") -> Iterator[str]:
    """What the simulator serves, how a server is started on it, and an order of each kind."""
    url, key = f"http://{options.host}:{options.port}", options.api_key or "any"
    yield f"a simulated RunningHub serves {url} and accepts {'any API key' if key == 'any' else 'this API key alone'}"
    yield from _command(f"RUNNINGHUB_BASE_URL={url}", f"RUNNINGHUB_API_KEY={shlex.quote(key)}", "receiver serve")
    yield "order any model, or one of these; the results are made-up files:"
    yield from _order("alibaba/qwen-image-2.0/text-to-image", "prompt=a lighthouse")
    for workflow in options.workflows:
        yield from _order("--workflow", workflow.id, *_node(_text_node(workflow), workflow.password))
    for app in options.apps:
        node = app.nodes[0]
        set_to = f"{node.node_id}.{node.field}={'@one.jpg' if node.type == 'IMAGE' else 'a lighthouse'}"
        yield from _order("--app", app.id, *_node(set_to, app.workflow.password))
        if app.quick_code:
            yield from _order("--quick", app.id, f"quickCreateCode={app.quick_code}", *_node(set_to, None))
    yield "each request and each callback is a line from here on:"


def _node(set_to: str, password: str | None) -> list[str]:
    return ["--node", set_to, *([f"accessPassword={password}"] if password else [])]


def _order(*words: str) -> Iterator[str]:
    return _command("receiver submit", *map(shlex.quote, words))


def _command(*words: str) -> Iterator[str]:
    """A command in lines that fit 80 columns and can be copied; no word is broken."""
    line = " "
    for word in words:
        if len(line) + len(word) > 76:
            yield f"{line} \\"
            line = "     "
        line += f" {word}"
    yield line


def _text_node(workflow: "Workflow") -> str:
    """A node of a workflow that takes a text, set to one."""
    texts = (
        (node, name) for node, each in workflow.graph.items() for name in ("text", "prompt") if name in each["inputs"]
    )
    node, name = next(texts)
    return f"{node}.{name}=a lighthouse"


def _log(line: str) -> None:
    click.echo(f"{datetime.now(UTC):%H:%M:%S} {clean(line)}")
