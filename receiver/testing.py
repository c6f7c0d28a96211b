"""The test kit for your own actions. `pytest_plugins = ["receiver.testing"]` gives tests the fixture `run_action`.

    from receiver.testing import ActionRunner, make_event

    pytest_plugins = ["receiver.testing"]

    def test_a_failed_task_is_not_indexed(run_action: ActionRunner) -> None:
        outcome = run_action("index", make_event("failed"))
        assert (outcome.state, outcome.reason) == ("dead", "there is nothing to index")

Everything but the fixture works without pytest. The effect is real: a URL is called, a command run, a file saved.

(For pytest, which would otherwise warn that this was imported before it could rewrite it: PYTEST_DONT_REWRITE)
"""

import asyncio
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

from receiver.events import Event
from receiver.model.definitions import ActionKind, Definition
from receiver.model.errors import SettingsError
from receiver.model.records import Result, SavedFile, TaskError
from receiver.rehearse import (
    Rehearsal,
    UnknownAction,
    changed,
    find_definition,
    fitting_event,
    make_event,
    read_definition,
    run_once,
)
from receiver.server.settings import CONFIG_FILE, CONFIG_VARIABLE, Settings, load_settings

__all__ = [
    "ActionRunner",
    "Definition",
    "Event",
    "Outcome",
    "Rehearsal",
    "Result",
    "SavedFile",
    "SettingsError",
    "TaskError",
    "UnknownAction",
    "make_event",
]

Outcome = Rehearsal
"""Its former name, which tests of yours may import."""
ActionLike: TypeAlias = str | Mapping[str, Any] | Definition


class ActionRunner:
    """Runs actions once each, without a server and without a database.

    Downloads go to `directory` instead of their own, unless a call says otherwise (None: to their own).
    """

    def __init__(self, directory: str | PathLike[str] | None = None) -> None:
        self._directory = directory

    def __call__(
        self,
        action: ActionLike,
        event: Mapping[str, Any] | None = None,
        *,
        config: str | PathLike[str] = CONFIG_FILE,
        attempt: int = 1,
        idempotency_key: str | None = None,
        **changes: Any,  # noqa: ANN401
    ) -> Rehearsal:
        """Runs `action` for `event` and returns what the attempt came to; a failed one is not repeated.

        `action` is the name of one in the file `config`, or what stands in an [[actions]] table, or a Definition.
        `event` is a made-up one that suits the action unless it is given. `attempt` counts from 1: a failure of the
        last of `max_attempts` ends as dead. `idempotency_key` is a fresh one that begins with `test:` unless it is
        given. Any other argument replaces a setting of the action, such as `url="http://127.0.0.1:8001/hook"`.

        Raises UnknownAction, SettingsError with every problem of the settings, ValueError for what is no event, and
        RuntimeError in a running event loop: there it is `await run_action.arun(...)`.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RuntimeError("a test that is async runs an action by `await run_action.arun(...)`")
        return asyncio.run(
            self.arun(action, event, config=config, attempt=attempt, idempotency_key=idempotency_key, **changes)
        )

    async def arun(
        self,
        action: ActionLike,
        event: Mapping[str, Any] | None = None,
        *,
        config: str | PathLike[str] = CONFIG_FILE,
        attempt: int = 1,
        idempotency_key: str | None = None,
        **changes: Any,  # noqa: ANN401
    ) -> Rehearsal:
        """The same in the event loop of an async test: what the action reaches may run there too."""
        definition, settings = _found(action, config)
        if definition.kind is ActionKind.DOWNLOAD and self._directory is not None:
            changes = {"directory": str(self._directory), **changes}
        definition = changed(definition, changes)
        if event is None:
            event = fitting_event(definition)
        return await run_once(definition, event, attempt=attempt, key=idempotency_key, settings=settings)


def _found(action: ActionLike, config: str | PathLike[str]) -> tuple[Definition, Settings | None]:
    if isinstance(action, Definition):
        return action, None
    if not isinstance(action, str):
        return read_definition(action), None
    path = Path.cwd() / config
    if not path.exists():
        raise SettingsError([f"there is no file {path}: run the tests beside it, or name it by `config=`"])
    # The file alone: what the developer's own environment holds must not decide a test.
    settings = load_settings({CONFIG_VARIABLE: str(path)}, Path.cwd())
    return find_definition(settings.definitions, action), settings


try:
    import pytest
except ModuleNotFoundError:
    pass
else:

    @pytest.fixture
    def run_action(tmp_path: Path) -> ActionRunner:
        """Runs one of your actions once; downloads are saved below `tmp_path / "results"`."""
        return ActionRunner(tmp_path / "results")
