"""Fixtures that every room shares."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from house import House, open_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """The whole program with one action for success and one for failure."""
    async with open_house(tmp_path) as house:
        yield house
