"""The law of the house. The tables below are its diagram; whoever wants another house changes them here first.

Imports are read from the source, wherever they stand: in a function, under TYPE_CHECKING, or as a text that is handed
to import_module. The checkers take a mapping of module names to sources, so that made-up houses show that they bite.
"""

import ast
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LONGEST = 450
VAGUE = {"utils", "helpers", "manager", "base", "core"}

# From the street down to the foundations. A room may import from the rows below its own, and from itself.
DIAGRAM: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("cli",),
    ("demo", "testing"),
    ("console",),
    ("web", "rehearse"),
    ("server", "client"),
    ("submit", "receive", "reconcile", "dispatch", "replay", "housekeep"),
    ("orders",),
    ("store", "runninghub", "actions"),
    ("egress", "events"),
    ("model",),
    ("version",),
)
VERSION = "receiver"
"""The package itself, which every import of anything below it runs first: it knows the version and nothing else."""

GUEST = "simulator"
HOSTS = ("cli", "demo")
"""The simulator imports nothing of ours, or a misunderstanding would agree with itself; only these show it in."""

PURE = (
    "model",
    "events",
    "server.definitions",
    "actions.body",
    "actions.settings",
    "actions.download.content",
    "actions.download.names",
    "actions.download.ranges",
    "egress.answers",
    "egress.unpack",
    "orders.references",
    "orders.repeats",
    "orders.signatures",
    "runninghub.bodies",
    "runninghub.errors",
    "runninghub.graphs",
    "runninghub.lenient",
    "runninghub.nodes",
    "runninghub.requests",
    "runninghub.validation",
    "runninghub.wire",
)
VERBS = (
    *("submit", "receive", "reconcile", "dispatch", "replay", "housekeep"),
    *("orders.attachments", "orders.exchange", "orders.upload"),
)
WORLD = {"os", "pathlib", "io", "tempfile", "shutil", "sys", "socket", "ssl", "sqlite3", "threading", "logging"}
CLOCKS_AND_DICE = {"time", "random", "secrets"}
NETWORK = {"httpx", "httpcore", "anyio", "socket", "ssl", "subprocess", "urllib.request", "http.client"}

# Who may import what: rooms, folders or single modules. A library without an entry may not be imported at all.
OWNERS: dict[str, tuple[str, ...]] = {
    "anyio": ("egress.client", "egress.sending"),
    "asyncio.subprocess": ("actions.child",),
    "click": ("cli",),
    "dotenv": ("cli.variables",),
    "httpcore": ("egress.client", "egress.guard"),
    "httpx": (
        "runninghub.client",
        "runninghub.resources",
        "runninghub.measured",
        "egress.client",
        "egress.sending",
        "egress.guard",
        "client",
        "server.service",
        "rehearse",
        "simulator.delivery",
    ),
    "httptools": ("web.connection",),
    "importlib": ("actions.python", "cli"),
    "importlib.metadata": ("version",),
    "itsdangerous": ("model.links", "model.sessions"),
    "jinja2": ("console",),
    "markupsafe": ("console",),
    "msgspec": ("",),
    "prometheus_client": ("web.metrics",),
    "psycopg": ("store.postgres",),
    "pytest": ("testing",),
    "python_multipart": ("web.forms",),
    "rich": ("cli", "demo"),
    "socket": ("egress.addresses", "egress.guard", "web.server", "web.stream"),
    "sqlite3": ("store", "cli.outcome"),
    "sqlite_utils": ("store.sqlite",),
    "stamina": ("runninghub.client",),
    "standardwebhooks": ("actions.http",),
    "starlette": ("console", "web", "simulator"),
    "structlog": ("console", "server", "web", "cli", "demo"),
    "subprocess": ("actions.child", "demo"),
    "uuid_utils": ("web",),
    "uvicorn": ("web.server", "web.connection", "cli", "demo"),
    "uvloop": ("cli",),
    # Nobody, or few: there is one way out of the house already, or a better tool.
    "http.client": (),
    "json": ("web", "simulator", "cli", "demo", "runninghub.lenient", "orders.repeats"),
    "multiprocessing": (),
    "pickle": (),
    "unittest": (),
    "urllib.request": ("demo",),
    # The engines behind the store's verbs.
    "receiver.store.sqlite": ("store", "cli", "demo"),
    "receiver.store.postgres": ("store", "cli"),
}
SPAWNERS = ("actions.child",)
SPAWNING = {"subprocess", "subprocess_exec", "subprocess_shell", "create_subprocess_exec", "create_subprocess_shell"}
SPAWNING_OF_OS = {
    "system",
    "popen",
    "fork",
    "execv",
    "execve",
    "execvp",
    "execvpe",
    "posix_spawn",
    "spawnv",
    "startfile",
}

PATCHING_WORDS = ("mock", "pytest_mock", "mocker", "monkeypatch", "MonkeyPatch", "freezegun", "sleep")
REAL_TIME = {"servers", "dying_worker", "soaking", "soaked_server", "hook", "postgres"}
"""Test modules that wait for processes which nothing else announces, or break one for seconds: the soak's."""

Sources = Mapping[str, str]
Checker = Callable[[Sources], list[str]]


# ---------------------------------------------------------------- reading


@cache
def parsed(source: str) -> tuple[ast.AST, ...]:
    """What the checkers look at: imports, calls, attributes and arguments, wherever they stand."""
    wanted = (ast.Import, ast.ImportFrom, ast.Call, ast.Attribute, ast.arg)
    return tuple(node for node in ast.walk(ast.parse(source)) if isinstance(node, wanted))


def imported(module: str, sources: Sources) -> Iterator[str]:
    """The dotted names that a module imports, as exactly as they are written: `receiver.rules.LADDER`."""
    for node in parsed(sources[module]):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=name, names=names, level=level):
                start = _package(module, level, sources)
                base = ".".join(part for part in (start, name) if part)
                yield from (f"{base}.{alias.name}" for alias in names)
            case ast.Call(func=ast.Name(id="import_module" | "__import__"), args=[ast.Constant(value=str(name)), *_]):
                yield name
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name)), *_]):
                yield name


def _package(module: str, level: int, sources: Sources) -> str:
    if level == 0:
        return ""
    up = level - 1 if _is_package(module, sources) else level
    parts = module.split(".")
    return ".".join(parts[: len(parts) - up])


def _is_package(module: str, sources: Sources) -> bool:
    return any(name.startswith(f"{module}.") for name in sources)


def edges(module: str, sources: Sources) -> set[str]:
    """The modules of ours that a module names in its imports."""
    found = {_ours(name, sources) for name in imported(module, sources)}
    return {name for name in found if name is not None and name != module}


def _ours(name: str, sources: Sources) -> str | None:
    if name.partition(".")[0] != VERSION:
        return None
    while name not in sources and "." in name:
        name = name.rpartition(".")[0]
    return name


def run_with(module: str, sources: Sources) -> set[str]:
    """What an import of the module runs before it is done: what it imports, and the packages around all of these."""
    named = {module, *edges(module, sources)}
    around = {name[:end] for name in named for end, sign in enumerate(name) if sign == "."}
    return (named | around) & sources.keys()


def place(module: str) -> str:
    """A module's name inside the house: `store.sqlite.tasks`."""
    return "version" if module == VERSION else module.removeprefix(f"{VERSION}.")


def room(module: str) -> str:
    return place(module).partition(".")[0]


def lies_in(module: str, places: tuple[str, ...]) -> bool:
    return any(not each or place(module) == each or place(module).startswith(f"{each}.") for each in places)


# ---------------------------------------------------------------- the checkers

ROW = {name: depth for depth, names in enumerate(DIAGRAM) for name in names}


def unknown_rooms(sources: Sources) -> list[str]:
    return [
        f"{module}: the room {room(module)} is not in the diagram"
        for module in sources
        if room(module) not in ROW and room(module) != GUEST
    ]


def imports_that_point_up(sources: Sources) -> list[str]:
    return [
        f"{module} imports {target}"
        for module in sources
        for target in sorted(edges(module, sources))
        if room(module) != room(target) and GUEST not in (room(module), room(target))
        if ROW.get(room(module), -1) >= ROW.get(room(target), -1)
    ]


def friends_of_the_guest(sources: Sources) -> list[str]:
    return [
        f"{module} imports {target}"
        for module in sources
        for target in sorted(edges(module, sources))
        if (room(module) == GUEST and room(target) != GUEST)
        or (room(target) == GUEST and room(module) != GUEST and not lies_in(module, HOSTS))
    ]


def knots(sources: Sources) -> list[str]:
    graph = {module: edges(module, sources) for module in sources}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as knot:
        return [" imports ".join(reversed(knot.args[1]))]
    return []


def ways_out_of_receiving(sources: Sources) -> list[str]:
    """Every chain of imports from `receive` to something that can speak to the world."""
    start = f"{VERSION}.receive"
    chains = {start: [start]}
    waiting = [start]
    for module in waiting:  # which grows while it is walked: the shortest chains come first
        for target in sorted(run_with(module, sources) - chains.keys()):
            chains[target] = [*chains[module], target]
            waiting.append(target)
    return [
        " imports ".join([*chain, name])
        for module, chain in chains.items()
        for name in [*sorted(set(imported(module, sources))), *spawns(module, sources)]
        if any(_is(name, library) for library in NETWORK | SPAWNING)
    ]


def trespassers(sources: Sources) -> list[str]:
    """Imports of a library by somebody who does not own it, and of a library that nobody owns."""
    found = []
    for module in sources:
        for name in sorted(set(imported(module, sources))):
            library = max((each for each in OWNERS if _is(name, each)), key=len, default=None)
            top = name.partition(".")[0]
            if library is None and top not in sys.stdlib_module_names and top != VERSION:
                found.append(f"{module} imports {name}, which has no owner")
            elif library is not None and not lies_in(module, OWNERS[library]):
                found.append(f"{module} imports {name}")
    return found


def spawns(module: str, sources: Sources) -> list[str]:
    """What in a module starts processes."""
    found = []
    for node in parsed(sources[module]):
        match node:
            case ast.Attribute(attr=name) if name in SPAWNING:
                found.append(name)
            case ast.Attribute(value=ast.Name(id="os"), attr=name) if name in SPAWNING_OF_OS:
                found.append(f"os.{name}")
    return found


def strange_spawners(sources: Sources) -> list[str]:
    return [
        f"{module} uses {name}"
        for module in sources
        if not lies_in(module, SPAWNERS)
        for name in sorted(set(spawns(module, sources)))
    ]


def impurities(sources: Sources) -> list[str]:
    """Pure modules that reach for the world, a clock or dice; verbs that own a clock."""
    found = []
    for module in sources:
        pure = lies_in(module, PURE)
        forbidden = WORLD | CLOCKS_AND_DICE | ({"asyncio"} if pure else set())
        if not pure and not lies_in(module, VERBS):
            continue
        found += [
            f"{module} imports {name}"
            for name in sorted(set(imported(module, sources)))
            if name.partition(".")[0] in forbidden
        ]
        for node in parsed(sources[module]):
            match node:
                case ast.Attribute(value=ast.Name(id="datetime" | "date"), attr="now" | "utcnow" | "today" as name):
                    found.append(f"{module} reads a clock: {name}")
                case ast.Call(func=ast.Name(id="open" | "print" | "input" as name)):
                    found.append(f"{module} calls {name}")
    return found


def vague_names(sources: Sources) -> list[str]:
    return [module for module in sources if set(module.split(".")) & VAGUE]


def long_modules(sources: Sources) -> list[str]:
    return [
        f"{module} has {lines} lines"
        for module, source in sources.items()
        if (lines := len(source.splitlines())) > LONGEST
    ]


def patches_and_naps(sources: Sources) -> list[str]:
    """Test modules that patch, or wait for time to pass: something was not handed in."""
    found = []
    for module, source in sources.items():
        if not any(word in source for word in PATCHING_WORDS):
            continue  # most are not worth parsing
        for name in imported(module, sources):
            if set(PATCHING_WORDS) & set(name.split(".")):
                found.append(f"{module} imports {name}")
        for node in parsed(sources[module]):
            match node:
                case ast.arg(arg="monkeypatch" | "mocker" as name):
                    found.append(f"{module} asks for {name}")
                case ast.Attribute(value=ast.Name(id="pytest"), attr="MonkeyPatch" as name):
                    found.append(f"{module} asks for {name}")
                case ast.Call(func=ast.Attribute(value=ast.Name(id="asyncio"), attr="sleep"), args=[ast.Constant(0)]):
                    pass
                case ast.Call(func=ast.Attribute(attr="sleep")) if module not in REAL_TIME:
                    found.append(f"{module} sleeps")
    return found


def _is(name: str, library: str) -> bool:
    return name == library or name.startswith(f"{library}.")


# ---------------------------------------------------------------- the house as it stands


@cache
def house() -> Sources:
    """Every module of ours by its dotted name."""
    found = {}
    for path in sorted((ROOT / VERSION).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return found


@cache
def suite() -> Sources:
    return {path.stem: path.read_text() for path in sorted((ROOT / "tests").rglob("*.py"))}


CHECKERS: dict[str, Checker] = {
    "every module has its room": unknown_rooms,
    "imports only point down": imports_that_point_up,
    "the simulator and the program are strangers": friends_of_the_guest,
    "nothing imports in a ring": knots,
    "receiving cannot speak to anybody": ways_out_of_receiving,
    "every library has its owners": trespassers,
    "processes are started in one place": strange_spawners,
    "words and verbs are handed the world": impurities,
    "files have names that say something": vague_names,
    "files are short": long_modules,
}


@pytest.mark.parametrize("check", CHECKERS.values(), ids=CHECKERS.keys())
def test_the_house_keeps_its_law(check: Checker) -> None:
    assert check(house()) == []


def test_tests_neither_patch_nor_sleep() -> None:
    assert patches_and_naps(suite()) == []


def test_test_files_have_names_that_say_something() -> None:
    assert vague_names({name.removeprefix("test_"): source for name, source in suite().items()}) == []


def test_the_law_looks_at_the_whole_house() -> None:
    """A checker that is given nothing finds nothing."""
    assert {"receiver", "receiver.receive", "receiver.store.writer", "receiver.web.callbacks"} <= house().keys()
    assert len(house()) > 60
    assert "receiver.store.writer" in edges("receiver.store.grouped", house())
    assert {"receiver.model.links", "receiver.runninghub.wire"} <= edges("receiver.receive", house())
    assert "test_law" in suite()


def test_the_receiving_verb_is_followed_down_to_the_disk() -> None:
    sources = {**house(), "receiver.store.writer": "import httpx"}
    (way,) = ways_out_of_receiving(sources)
    assert way.startswith("receiver.receive imports receiver.store")
    assert way.endswith("receiver.store.writer imports httpx")


def test_no_entry_of_the_tables_is_for_nobody() -> None:
    """An owner that does not exist would be a door left open for a room of that name."""
    places = {place(module) for module in house()} | {""}
    rooms = {name for row in DIAGRAM for name in row} | {GUEST, *HOSTS}
    named = rooms | {owner for owners in OWNERS.values() for owner in owners} | {*PURE, *VERBS, *SPAWNERS}
    assert named - places == set()


# ---------------------------------------------------------------- made-up houses

SOUND = {
    "receiver": "from importlib.metadata import version",
    "receiver.model": "",
    "receiver.model.records": "from msgspec import Struct",
    "receiver.model.rules": "from receiver.model.records import Task",
    "receiver.runninghub": "",
    "receiver.runninghub.wire": "from receiver.model.records import Json",
    "receiver.runninghub.client": "import httpx\nfrom receiver.runninghub import wire",
    "receiver.store": "from receiver.store.sqlite import Store",
    "receiver.store.sqlite": "import sqlite3",
    "receiver.receive": "from receiver.runninghub import wire\nfrom receiver.store import Store",
    "receiver.web": "",
    "receiver.web.app": "from starlette.routing import Route\nfrom receiver.receive import receive",
    "receiver.simulator": "from receiver.simulator.app import Simulator",
    "receiver.simulator.app": "from starlette.routing import Route",
    "receiver.cli": "import click\n\ndef demo() -> None:\n    from receiver.simulator import Simulator",
}

BREACHES: list[tuple[Checker, dict[str, str], str]] = [
    (unknown_rooms, {"receiver.attic": ""}, "receiver.attic: the room attic is not in the diagram"),
    (
        imports_that_point_up,
        {"receiver.model.rules": "from receiver.receive import receive"},
        "receiver.model.rules imports receiver.receive",
    ),
    (
        knots,
        {"receiver.model.records": "import receiver.model.rules"},
        "receiver.model.records imports receiver.model.rules imports receiver.model.records",
    ),
    (
        imports_that_point_up,
        {"receiver.model.links": "from receiver import store"},
        "receiver.model.links imports receiver.store",
    ),
    (
        imports_that_point_up,
        {"receiver.store.sqlite": "def late() -> None:\n    from receiver.web.app import x"},
        "receiver.store.sqlite imports receiver.web.app",
    ),
    (
        imports_that_point_up,
        {"receiver.model.rules": "from typing import TYPE_CHECKING as T\nif T:\n    from receiver.store import Store"},
        "receiver.model.rules imports receiver.store",
    ),
    (
        imports_that_point_up,
        {"receiver.store.sqlite": "from ..runninghub import wire"},
        "receiver.store.sqlite imports receiver.runninghub.wire",
    ),
    (
        imports_that_point_up,
        {"receiver.store": "from . import sqlite\nfrom .. import receive"},
        "receiver.store imports receiver.receive",
    ),
    (
        imports_that_point_up,
        {"receiver.submit": "from receiver.receive import receive"},
        "receiver.submit imports receiver.receive",
    ),
    (
        imports_that_point_up,
        {"receiver.model.rules": "from importlib import import_module\nimport_module('receiver.web.app')"},
        "receiver.model.rules imports receiver.web.app",
    ),
    (
        imports_that_point_up,
        {"receiver.model.rules": "import importlib\nimportlib.import_module('receiver.web')"},
        "receiver.model.rules imports receiver.web",
    ),
    (
        imports_that_point_up,
        {"receiver": "from receiver.model.records import Task"},
        "receiver imports receiver.model.records",
    ),
    (
        friends_of_the_guest,
        {"receiver.simulator.app": "from receiver.runninghub import wire"},
        "receiver.simulator.app imports receiver.runninghub.wire",
    ),
    (
        friends_of_the_guest,
        {"receiver.simulator.app": "from receiver import __version__"},
        "receiver.simulator.app imports receiver",
    ),
    (
        friends_of_the_guest,
        {"receiver.web.app": "import receiver.simulator.app"},
        "receiver.web.app imports receiver.simulator.app",
    ),
    (
        knots,
        {
            "receiver.web.one": "from receiver.web import two",
            "receiver.web.two": "def f() -> None:\n    import receiver.web.one",
        },
        "receiver.web.one imports receiver.web.two imports receiver.web.one",
    ),
    (ways_out_of_receiving, {"receiver.receive": "import httpx"}, "receiver.receive imports httpx"),
    (
        ways_out_of_receiving,
        {"receiver.receive": "from receiver.runninghub.client import RunningHub"},
        "receiver.receive imports receiver.runninghub.client imports httpx",
    ),
    (
        ways_out_of_receiving,
        {"receiver.runninghub": "from receiver.runninghub.client import RunningHub"},
        "receiver.receive imports receiver.runninghub imports receiver.runninghub.client imports httpx",
    ),
    (
        ways_out_of_receiving,
        {"receiver.store.sqlite": "import asyncio\nspawn = asyncio.create_subprocess_exec"},
        "receiver.receive imports receiver.store imports receiver.store.sqlite imports create_subprocess_exec",
    ),
    (
        ways_out_of_receiving,
        {"receiver": "from urllib.request import urlopen"},
        "receiver.receive imports receiver imports urllib.request.urlopen",
    ),
    (trespassers, {"receiver.web.app": "import httpx"}, "receiver.web.app imports httpx"),
    (
        trespassers,
        {"receiver.web.app": "from httpx._client import AsyncClient"},
        "receiver.web.app imports httpx._client.AsyncClient",
    ),
    (
        trespassers,
        {"receiver.model.rules": "def f() -> None:\n    import sqlite3"},
        "receiver.model.rules imports sqlite3",
    ),
    (trespassers, {"receiver.clients": "import httpx"}, "receiver.clients imports httpx"),
    (
        trespassers,
        {"receiver.model.rules": "import requests"},
        "receiver.model.rules imports requests, which has no owner",
    ),
    (
        trespassers,
        {"receiver.model.rules": "from asyncio import subprocess"},
        "receiver.model.rules imports asyncio.subprocess",
    ),
    (
        trespassers,
        {"receiver.model.rules": "from unittest.mock import Mock"},
        "receiver.model.rules imports unittest.mock.Mock",
    ),
    (
        trespassers,
        {"receiver.model.links": "from importlib import reload"},
        "receiver.model.links imports importlib.reload",
    ),
    (
        trespassers,
        {"receiver.receive": "from receiver.store.sqlite import Store"},
        "receiver.receive imports receiver.store.sqlite.Store",
    ),
    (strange_spawners, {"receiver.web.app": "import os\nos.system('true')"}, "receiver.web.app uses os.system"),
    (
        strange_spawners,
        {"receiver.actions.http": "import asyncio\nasyncio.subprocess.PIPE"},
        "receiver.actions.http uses subprocess",
    ),
    (impurities, {"receiver.model.rules": "from time import time"}, "receiver.model.rules imports time.time"),
    (impurities, {"receiver.runninghub.wire": "import asyncio"}, "receiver.runninghub.wire imports asyncio"),
    (impurities, {"receiver.model.links": "import os.path"}, "receiver.model.links imports os.path"),
    (impurities, {"receiver.receive": "import random"}, "receiver.receive imports random"),
    (impurities, {"receiver.reconcile.missed": "import random"}, "receiver.reconcile.missed imports random"),
    (
        impurities,
        {"receiver.model.records": "from datetime import datetime\ndatetime.now()"},
        "receiver.model.records reads a clock: now",
    ),
    (impurities, {"receiver.model.rules": "open('x')"}, "receiver.model.rules calls open"),
    (vague_names, {"receiver.web.utils": ""}, "receiver.web.utils"),
    (vague_names, {"receiver.core.rules": ""}, "receiver.core.rules"),
    (long_modules, {"receiver.model.rules": "#\n" * 451}, "receiver.model.rules has 451 lines"),
    (patches_and_naps, {"test_x": "from unittest import mock"}, "test_x imports unittest.mock"),
    (patches_and_naps, {"test_x": "def test_x(monkeypatch: object) -> None: ..."}, "test_x asks for monkeypatch"),
    (patches_and_naps, {"test_x": "import time\ntime.sleep(1)"}, "test_x sleeps"),
    (
        patches_and_naps,
        {"test_x": "import asyncio\nasync def f() -> None:\n    await asyncio.sleep(0.1)"},
        "test_x sleeps",
    ),
    (patches_and_naps, {"test_x": "from time import sleep as nap\nnap(1)"}, "test_x imports time.sleep"),
]


@pytest.mark.parametrize(
    ("check", "breach", "problem"), BREACHES, ids=[f"{check.__name__}: {problem}" for check, _, problem in BREACHES]
)
def test_a_breach_of_the_law_is_found_and_named(check: Checker, breach: dict[str, str], problem: str) -> None:
    assert check(SOUND) == []
    assert check({**SOUND, **breach}) == [problem]


def test_what_the_law_allows_is_not_found() -> None:
    """The tests themselves may yield, and a module of 450 lines is not too long."""
    yields = {"test_x": "import asyncio\nasync def f() -> None:\n    await asyncio.sleep(0)"}
    assert patches_and_naps(yields) == []
    assert long_modules({"receiver.model.rules": "#\n" * LONGEST}) == []
