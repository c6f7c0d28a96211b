"""Looks at what the settings name on this machine: folders, programs, functions. Changes nothing."""

import os
import shutil
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

from receiver.actions import ActionFailed
from receiver.actions.python import load
from receiver.actions.settings import CommandDefinition, DownloadDefinition, HttpDefinition, PythonDefinition
from receiver.cli.connect import database_file
from receiver.egress.addresses import is_near
from receiver.model.definitions import Definition
from receiver.runninghub import catalogue
from receiver.runninghub.client import site_of
from receiver.server.settings import MIB, Settings
from receiver.store.sqlite.file import open_to_others, private_files
from receiver.store.sqlite.offline import open_by_site


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    ok: bool
    what: str
    found: str


class _Wrong(Exception):
    """What is wrong with a thing, as a sentence."""


def examine(settings: Settings, directory: Path) -> list[Finding]:
    """Everything that a server in this directory would rely on."""
    database = database_file(settings, directory)
    address = settings.public_url or "none: no callback URL is sent, RunningHub is asked instead"
    key = "given" if settings.api_key else "none: callbacks are taken, but nothing can be submitted"
    return [
        _finding("database", partial(_file, database)),
        *(Finding(ok=True, what="database", found=each) for each in _open_beside(database)),
        _finding("callbacks.disk_floor", partial(_room, database, settings.disk_floor)),
        Finding(ok=True, what="public_url", found=address),
        Finding(ok=True, what="runninghub.api_key", found=key),
        *(
            _elsewhere(site, count)
            for site, count in open_by_site(database).items()
            if site != site_of(settings.base_url)
        ),
        *(_finding(f"action {each.name}", partial(_action, each, directory)) for each in settings.definitions),
    ]


def _elsewhere(site: str, count: int) -> Finding:
    found = f"{count} open tasks were sent to {site}, and are asked about there"
    return Finding(ok=False, what="runninghub.base_url", found=found)


def _finding(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(ok=True, what=what, found=look())
    except (_Wrong, ActionFailed) as wrong:
        return Finding(ok=False, what=what, found=str(wrong))


def _file(path: Path) -> str:
    there = path.exists()
    if there and not (path.is_file() and os.access(path, os.R_OK | os.W_OK)):
        raise _Wrong(f"{path} is no file that can be read and written")
    found = str(path) if there else f"{path}, to be made"
    if there and (mode := open_to_others(path)):
        found += f", of mode {mode}: the server makes it 0600 when it starts"
    # SQLite puts its log beside it.
    return _folder(path.parent, found)


def _open_beside(database: Path) -> list[str]:
    """The files beside a database that others than its owner may read."""
    real = database.resolve()
    found = [(each, open_to_others(each)) for each in private_files(real) if each != real]
    return [f"{each}, of mode {mode}: the server makes it 0600 when it starts" for each, mode in found if mode]


def _room(database: Path, floor: int) -> str:
    free = shutil.disk_usage(_nearest(database.parent)).free
    found = f"{free // MIB} MiB free, the floor is {floor // MIB} MiB"
    if free < floor:
        raise _Wrong(found)
    return found


def _action(definition: Definition, directory: Path) -> str:
    if definition.when.target is not None:
        _check_target(definition.when.target)
    match definition:
        case DownloadDefinition(directory=folder):
            return _folder(directory / folder, f"saves below {folder}")
        case CommandDefinition(command=(program, *_)):
            if (path := shutil.which(program)) is None:
                raise _Wrong(f"there is no program {program}")
            return f"runs {path}"
        case PythonDefinition(function=function):
            load(function)
            return f"calls {function}"
        case HttpDefinition(url=url):
            if not definition.allow_private and is_near(urlsplit(url).hostname or ""):
                raise _Wrong(f"{url} is not a public address; `allow_private = true` lets it be reached")
            return f"posts to {url}, {'signed' if definition.secret else 'unsigned'}"
    return f"is of kind {definition.kind}"


def _check_target(pattern: str) -> None:
    """Refuses a `when.target` that fits names of models only: tasks are kept under endpoints."""
    named = [model for model in catalogue.models() if fnmatchcase(model.name, pattern)]
    if named and not any(fnmatchcase(model.endpoint, pattern) for model in catalogue.models()):
        fits = f"{pattern} fits names alone: {named[0].name} has the endpoint {named[0].endpoint}"
        raise _Wrong(f"when.target is an endpoint, and {fits}")


def _folder(folder: Path, found: str) -> str:
    nearest = _nearest(folder)
    if not nearest.is_dir():
        raise _Wrong(f"{nearest} is no directory")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise _Wrong(f"{nearest} cannot be written")
    return found


def _nearest(folder: Path) -> Path:
    """The folder itself, or what it would be made in."""
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
