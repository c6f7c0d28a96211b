"""Looks at what the settings name on this machine: folders, programs, functions. Changes nothing."""

import os
import shutil
from collections.abc import Iterator
from fnmatch import fnmatchcase
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
from receiver.server.settings import MIB, Settings


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    ok: bool
    what: str
    found: str


def examine(settings: Settings, directory: Path) -> list[Finding]:
    """Everything that a server in this directory would rely on."""
    return [*_own(settings, directory), *(_of_action(each, directory) for each in settings.definitions)]


def _own(settings: Settings, directory: Path) -> Iterator[Finding]:
    database = database_file(settings, directory)
    yield _file(database)
    yield _room(database, settings.disk_floor)
    address = settings.public_url or "none: no callback URL is sent, RunningHub is asked instead"
    yield Finding(ok=True, what="public_url", found=address)
    key = "given" if settings.api_key else "none: callbacks are taken, but nothing can be submitted"
    yield Finding(ok=True, what="runninghub.api_key", found=key)


def _file(path: Path) -> Finding:
    there = path.exists()
    if there and not (path.is_file() and os.access(path, os.R_OK | os.W_OK)):
        return Finding(ok=False, what="database", found=f"{path} is no file that can be read and written")
    # SQLite puts its log beside it.
    return _folder("database", path.parent, str(path) if there else f"{path}, to be made")


def _room(database: Path, floor: int) -> Finding:
    free = shutil.disk_usage(_nearest(database.parent)).free
    found = f"{free // MIB} MiB free, the floor is {floor // MIB} MiB"
    return Finding(ok=free >= floor, what="callbacks.disk_floor", found=found)


def _of_action(definition: Definition, directory: Path) -> Finding:
    what = f"action {definition.name}"
    problem = _target_problem(definition.when.target)
    if problem is not None:
        return Finding(ok=False, what=what, found=problem)
    match definition:
        case DownloadDefinition(directory=folder):
            return _folder(what, directory / folder, f"saves below {folder}")
        case CommandDefinition(command=(program, *_)):
            return _program(what, program)
        case PythonDefinition(function=function):
            return _function(what, function)
        case HttpDefinition():
            return _address(what, definition)
    return Finding(ok=True, what=what, found=f"is of kind {definition.kind}")


def _target_problem(pattern: str | None) -> str | None:
    """What is wrong with a `when.target` that fits names of models only: tasks are kept under endpoints."""
    known = catalogue.models() if pattern is not None else ()
    if pattern is None or any(fnmatchcase(model.endpoint, pattern) for model in known):
        return None
    named = next((model for model in known if fnmatchcase(model.name, pattern)), None)
    if named is None:
        return None
    return f"when.target is an endpoint, and {pattern} fits names alone: {named.name} has the endpoint {named.endpoint}"


def _address(what: str, definition: HttpDefinition) -> Finding:
    if not definition.allow_private and is_near(urlsplit(definition.url).hostname or ""):
        found = f"{definition.url} is not a public address; `allow_private = true` lets it be reached"
        return Finding(ok=False, what=what, found=found)
    signed = "signed" if definition.secret else "unsigned"
    return Finding(ok=True, what=what, found=f"posts to {definition.url}, {signed}")


def _program(what: str, program: str) -> Finding:
    path = shutil.which(program)
    return Finding(ok=path is not None, what=what, found=f"runs {path}" if path else f"there is no program {program}")


def _function(what: str, function: str) -> Finding:
    try:
        load(function)
    except ActionFailed as error:
        return Finding(ok=False, what=what, found=str(error))
    return Finding(ok=True, what=what, found=f"calls {function}")


def _folder(what: str, folder: Path, found: str) -> Finding:
    nearest = _nearest(folder)
    if not nearest.is_dir():
        return Finding(ok=False, what=what, found=f"{nearest} is no directory")
    if not os.access(nearest, os.W_OK | os.X_OK):
        return Finding(ok=False, what=what, found=f"{nearest} cannot be written")
    return Finding(ok=True, what=what, found=found)


def _nearest(folder: Path) -> Path:
    """The folder itself, or what it would be made in."""
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
