"""`receiver simulate`: the provider's API on a port of this machine, with the faults one wishes for."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from receiver.cli.outcome import cannot_listen

F = TypeVar("F", bound=Callable[..., object])

SECONDS = click.FloatRange(min=0)
AMOUNT = click.FloatRange(min=0)
FACTS = click.Path(exists=True, dir_okay=False)
API_TYPES = ("NORMAL", "SHARED", "EXCLUSIVE")
CURRENCIES = ("CNY", "USD")
FAULTS = {
    "drop": "a callback never arrives",
    "unsent": "a callback is never even sent",
    "duplicate": "a callback arrives twice",
    "late": "a callback comes late",
    "before_answer": "a callback overtakes the answer to its submission",
    "junk": "a callback's body is no JSON",
    "fail": "a task fails",
    "no_results": "a task succeeds without results",
    "false_claim": "a callback claims a success that was a failure",
    "early_claim": "a callback comes before the task has ended",
    "answer_lost": "the answer to a submission is lost",
}


def seconds_list(text: str | tuple[float, ...]) -> tuple[float, ...]:
    """The type of an option: numbers of seconds, separated by commas."""
    if isinstance(text, tuple):
        return text
    try:
        seconds = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        seconds = (-1.0,)
    if any(not 0 <= each < float("inf") for each in seconds):
        raise click.BadParameter(f"expected seconds separated by commas, such as 30,30,30, got {text!r}")
    return seconds


def _faults(command: F) -> F:
    for name, meaning in reversed(FAULTS.items()):
        option = "--" + name.replace("_", "-")
        command = click.option(
            option, type=click.FloatRange(0, 1), default=0.0, metavar="P", help=f"The chance that {meaning}."
        )(command)
    return command


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=8099, show_default=True, help="The port to listen on.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--base-url", metavar="URL", help="The front of result links.  [default: http://HOST:PORT]")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed, the same ids, bytes and faults.")
@click.option("--api-key", metavar="KEY", help="The only key that is accepted.  [default: any]")
@click.option("--task-seconds", type=SECONDS, default=5.0, show_default=True, help="How long a task takes.")
@click.option("--delay", type=SECONDS, default=0.0, show_default=True, help="How long every callback is held back.")
@click.option(
    "--retry-seconds",
    type=seconds_list,
    default="30,30,30",
    show_default=True,
    metavar="A,B,C",
    help="Between tries of a callback.",
)
@click.option("--late-seconds", type=SECONDS, default=60.0, show_default=True, help="How late a late callback is.")
@click.option("--max-in-flight", type=click.IntRange(1), metavar="N", help="Tasks at once; more are refused with 421.")
@click.option("--file-size", type=click.IntRange(0), default=65536, show_default=True, help="Bytes of a result file.")
@click.option("--link-seconds", type=SECONDS, default=86400.0, show_default=True, help="How long result links live.")
@click.option("--callback-on-cancel", is_flag=True, help="A cancelled task calls back as well.")
@click.option(
    "--models", type=FACTS, metavar="FILE", help="Facts of models, JSON a line each, to judge submissions by."
)
@click.option("--api-type", type=click.Choice(API_TYPES), default="SHARED", show_default=True, help="The kind of key.")
@click.option("--currency", type=click.Choice(CURRENCIES), default="CNY", show_default=True, help="What money is in.")
@click.option("--coins", type=AMOUNT, default=1e6, show_default=True, help="RH coins the account begins with.")
@click.option("--money", type=AMOUNT, default=1e6, show_default=True, help="Money the account begins with.")
@click.option("--coins-per-second", type=AMOUNT, default=0.2, show_default=True, help="What a workflow or app costs.")
@click.option("--model-price", type=AMOUNT, help="What a run of a model costs.  [default: depends on its input]")
@click.option("--upload-limit", type=click.IntRange(0), default=31457280, show_default=True, help="Bytes of an upload.")
@_faults
def simulate(**given: Any) -> None:  # noqa: ANN401 (the simulator's options, by name)
    """Serve a RunningHub of one's own: nothing costs money, and everything may go wrong.

    \b
    Example:
      receiver simulate --port 8099 --task-seconds 2 --drop 0.3 --duplicate 0.2
      RUNNINGHUB_BASE_URL=http://127.0.0.1:8099 RUNNINGHUB_API_KEY=any receiver serve
    """
    from receiver.simulator.serve import Options, create_app
    from receiver.web.server import listen

    options = Options(**given)
    try:
        app = create_app(options)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'--models'") from error
    try:
        listener = listen(options.host, options.port)
    except OSError as error:
        raise cannot_listen(options.host, options.port, error) from error
    import uvicorn

    click.echo(f"a simulated RunningHub serves http://{options.host}:{options.port}")
    click.echo(f"  RUNNINGHUB_BASE_URL=http://{options.host}:{options.port} RUNNINGHUB_API_KEY=any receiver serve")
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2)
    with listener:
        uvicorn.Server(config).run(sockets=[listener])
