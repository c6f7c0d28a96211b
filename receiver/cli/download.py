"""`receiver download`: the files of a task, from a server that may be far away."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from receiver.cli.connect import connect
from receiver.cli.options import json_option
from receiver.cli.outcome import FAILED, USED_WRONGLY, Ended
from receiver.cli.show import clean, document, note
from receiver.cli.waiting import byte_bar

if TYPE_CHECKING:
    from receiver.client import Client, Saved
    from receiver.model.views import TaskDetail


@click.command()
@click.argument("task_id", metavar="ID")
@click.argument("directory", metavar="[DIR]", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace files that have another content.")
@json_option
def download(task_id: str, directory: Path, overwrite: bool, as_json: bool) -> None:
    """Fetch the files that the server saved of a task into DIR, the working directory unless given.

    What breaks off is continued, also by the next run of the command. Every file is compared with what the server
    saved before it gets its name, and is not fetched again when it is there.

    \b
    Examples:
      receiver download 0197b0a2-5f0e
      receiver download 0197b0a2-5f0e shots/17
    """
    with connect() as client:
        task = client.task(task_id)
        names = file_names(task)
        if not names:
            raise Ended(_nothing(task))
        try:
            directory.mkdir(parents=True, exist_ok=True)
            found = {n: _fetch(client, task.id, n, directory / name, overwrite, as_json) for n, name in names.items()}
        except FileExistsError as error:
            raise Ended(f"{error}; give --overwrite, or another directory", USED_WRONGLY) from None
        except OSError as error:
            raise Ended(f"{error.filename or directory}: {error.strerror or 'cannot be written'}") from error
        except KeyboardInterrupt:
            note("the same command goes on where this one stopped")
            raise click.Abort from None
    if as_json:
        items = [{"result": n, "path": str(f.path), "bytes": f.size, "sha256": f.sha256} for n, f in found.items()]
        document({"items": items, "next": None})
    if missing := [str(n) for n, result in enumerate(task.results) if result.file is None]:
        note(f"not saved on the server: result {', '.join(missing)}; see receiver task {task.id}")
        click.get_current_context().exit(FAILED)


def file_names(task: "TaskDetail") -> dict[int, str]:
    """The name of each saved result's file, without its folders; those that clash have their number before it."""
    from receiver.actions.download.names import safe_name

    names = {
        n: safe_name(result.file.rpartition("/")[2], str(n))
        for n, result in enumerate(task.results)
        if result.file is not None
    }
    counts = Counter(name.casefold() for name in names.values())
    return {n: f"{n}-{name}" if counts[name.casefold()] > 1 else name for n, name in names.items()}


def _fetch(client: "Client", task_id: str, n: int, path: Path, overwrite: bool, as_json: bool) -> "Saved":
    """Fetches a file, and says at once where it is: a later one may fail."""
    with byte_bar(f"fetching {clean(path.name)}") as tell:
        saved = client.download(task_id, n, path, tell, overwrite=overwrite)
    if not as_json:
        note(f"{saved.size} bytes{'' if saved.new else ', there already'}")
        click.echo(clean(saved.path))
    return saved


def _nothing(task: "TaskDetail") -> str:
    if task.event is None:
        return f"the task is {task.state} and has no files yet: receiver wait {task.id}"
    return f"no file of this task is saved on the server: receiver task {task.id} shows its results and actions"
