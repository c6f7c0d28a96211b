"""The engines under the store. Whoever adds one adds a line, and the contract is held to it too."""

from collections.abc import Callable
from pathlib import Path

import pytest
from postgres import new_ledger

from receiver.store import Store, open_store

ENGINES: dict[str, Callable[[Path], Store]] = {
    "sqlite": lambda directory: open_store(f"sqlite:///{directory / 'ledger' / 'receiver.db'}"),
    "postgres": lambda directory: open_store(new_ledger()),
}
"""By name: a store in a directory, not yet opened."""
PARAMETERS = [pytest.param(name, marks=() if name == "sqlite" else pytest.mark.slow) for name in ENGINES]
