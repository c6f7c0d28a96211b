"""Fixtures that every room shares."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from ssl import PROTOCOL_TLS_CLIENT, SSLContext

import pytest
import pytest_asyncio
from engines import ENGINES, PARAMETERS
from house import House, open_house
from targets import Target
from test_cli import Operator
from test_client import RunningServer

from receiver.egress.client import Egress
from receiver.store import Store


@pytest.fixture(params=PARAMETERS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A new ledger, open, on every engine there is."""
    store = ENGINES[request.param](tmp_path)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """The whole program with one action for success and one for failure."""
    async with open_house(tmp_path) as house:
        yield house


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """One house for all the strangers of a file, where none may leave a trace that another would see."""
    async with open_house(tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.fixture
async def egress() -> AsyncIterator[Egress]:
    """The one way out, guarded; it trusts no certificate, for none is met here."""
    egress = Egress(tls=SSLContext(PROTOCOL_TLS_CLIENT))
    yield egress
    await egress.aclose()


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    """A server on this machine that plays what it is told to."""
    async with Target().running() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server on a port of this machine, for all the users of a file."""
    with RunningServer(tmp_path_factory.mktemp("server")).running() as server:
        yield server


@pytest.fixture
def operator(server: RunningServer) -> Operator:
    """Somebody at a shell, who knows that server."""
    return Operator(server)
