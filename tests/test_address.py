"""The address that a server leaves beside its database, and what must be proved before a token is sent there."""

import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import msgspec
import pytest
from click.testing import Result
from test_cli import run
from test_client import RunningServer

from receiver.client import Client, Proving, Unproved
from receiver.model.announcement import Announcement
from receiver.server.address import NotAnnounced, address_file, announce, announced, withdraw

TOKEN = "the-admin-token-of-somebody"
STRANGER = 65534


class Thief:
    """Another program at a port of this machine; it keeps all that it is sent and answers what it likes."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.answer: Callable[[str], bytes] = lambda path: b'{"status":"ok","proof":"' + b"0" * 64 + b'"}'
        thief = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                thief.heard.append(f"{self.path} {self.headers}")
                body = thief.answer(self.path)
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def listening(self) -> Iterator["Thief"]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def knows(self, secret: str) -> bool:
        return any(secret in each for each in self.heard)


@pytest.fixture
def thief() -> Iterator[Thief]:
    with Thief().listening() as listening:
        yield listening


def tasks(database: Path, token: str | None = TOKEN) -> Result:
    """`receiver tasks`, given nothing but a token and a database."""
    return run("tasks", env={"RECEIVER_DATABASE": f"sqlite:///{database}", "RECEIVER_ADMIN_TOKEN": token})


def refused(result: Result, *, reason: str) -> None:
    assert result.exit_code == 4
    assert result.stderr.startswith("Error: nothing was sent to a server: ")
    assert reason in result.stderr
    assert "RECEIVER_URL" in result.stderr


# ---------------------------------------------------------------- what the file is


def test_the_address_is_for_its_owner_alone_and_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    victim, left = tmp_path / "victim", address_file(tmp_path / "receiver.db")
    victim.write_text("precious")
    for planted in (left, left.with_name(left.name + ".new")):
        planted.symlink_to(victim)
    made = announce(left, "http://127.0.0.1:8000", 7.0)
    assert victim.read_text() == "precious"
    assert (left.is_symlink(), stat.S_IMODE(left.stat().st_mode)) == (False, 0o600)
    assert announced(left) == made
    assert (made.url, made.pid, made.since) == ("http://127.0.0.1:8000", os.getpid(), 7.0)
    assert announce(left, "http://127.0.0.1:8000", 7.0).key != made.key
    withdraw(left)
    withdraw(left)
    assert [*tmp_path.iterdir()] == [victim]


def test_a_database_of_two_names_has_one_address(tmp_path: Path) -> None:
    (tmp_path / "receiver.db").touch()
    (tmp_path / "other.db").symlink_to(tmp_path / "receiver.db")
    assert address_file(tmp_path / "other.db") == address_file(tmp_path / "receiver.db")


def spoiled_link(left: Path) -> None:
    left.rename(left.with_suffix(".away"))
    left.symlink_to(left.with_suffix(".away"))


def spoiled_pipe(left: Path) -> None:
    left.unlink()
    os.mkfifo(left, 0o600)


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "open to others": (lambda left: left.chmod(0o644), "is open to other users (044)"),
    "a link": (spoiled_link, "cannot be read"),
    "a pipe": (spoiled_pipe, "is no file"),
    "of an earlier version": (lambda left: left.write_text("http://127.0.0.1:8000"), "start the server again"),
    "no text": (lambda left: left.write_bytes(b"\xff"), "start the server again"),
    "no address": (lambda left: announce(left, "http://[::1", 0.0), "start the server again"),
    "gone": (Path.unlink, "no server has left its address"),
}


@pytest.mark.parametrize(("spoil", "reason"), SPOILED.values(), ids=SPOILED.keys())
def test_an_address_that_cannot_be_trusted_is_refused_with_the_reason(
    spoil: Callable[[Path], object], reason: str, tmp_path: Path
) -> None:
    left = address_file(tmp_path / "receiver.db")
    announce(left, "http://127.0.0.1:8000", 0.0)
    spoil(left)
    with pytest.raises(NotAnnounced) as told:
        announced(left)
    assert reason in str(told.value)
    refused(tasks(tmp_path / "receiver.db"), reason=reason)


@pytest.mark.parametrize(
    "url", ["http://203.0.113.7:8000", "http://elsewhere.test:8000", "http://localhost.test", "file:///etc/passwd"]
)
def test_an_address_elsewhere_is_refused(url: str, tmp_path: Path) -> None:
    announce(address_file(tmp_path / "receiver.db"), url, 0.0)
    refused(tasks(tmp_path / "receiver.db"), reason="names a server elsewhere")


def test_the_address_of_another_user_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("a file of somebody else's is made by root alone")
    left = address_file(tmp_path / "receiver.db")
    announce(left, "http://127.0.0.1:8000", 0.0)
    os.chown(left, STRANGER, STRANGER)
    refused(tasks(tmp_path / "receiver.db"), reason="belongs to another user")
    (tmp_path / "receiver.db").touch()
    os.chown(tmp_path / "receiver.db", STRANGER, STRANGER)
    assert announced(left).url == "http://127.0.0.1:8000"


# ---------------------------------------------------------------- what must be proved


def test_a_planted_address_gets_no_token_even_with_a_key_of_its_own(tmp_path: Path, thief: Thief) -> None:
    database = tmp_path / "receiver.db"
    planted = announce(address_file(database), thief.url, 0.0)

    def guess(path: str) -> bytes:
        challenge = path.partition("challenge=")[2]
        return msgspec.json.encode({"proof": planted.proof("not-the-token", challenge)})

    thief.answer = guess
    refused(tasks(database), reason="has not proved")
    assert [line.partition("?")[0] for line in thief.heard] == ["/healthz"]
    assert not thief.knows(TOKEN)


@pytest.mark.parametrize(
    "answer", [b"", b"{}", b'{"status":"ok"}', b"\xff", b"x" * 5000, '{"proof":"é"}'.encode(), b'{"proof":7}']
)
def test_who_answers_anything_else_gets_no_token(answer: bytes, tmp_path: Path, thief: Thief) -> None:
    thief.answer = lambda path: answer
    announce(address_file(tmp_path / "receiver.db"), thief.url, 0.0)
    refused(tasks(tmp_path / "receiver.db"), reason="has not proved")
    assert not thief.knows(TOKEN)


def test_who_takes_the_port_of_a_server_that_crashed_does_not_get_the_databases_token(
    server: RunningServer, tmp_path: Path, thief: Thief
) -> None:
    with closing(sqlite3.connect(server.database)) as opened:
        opened.execute("vacuum into ?", (str(tmp_path / "receiver.db"),))
    announce(address_file(tmp_path / "receiver.db"), thief.url, 0.0)
    refused(tasks(tmp_path / "receiver.db", None), reason="has not proved")
    assert not thief.knows(server.token)


def test_a_proof_cannot_be_passed_on_from_another_port(server: RunningServer, tmp_path: Path, thief: Thief) -> None:
    own = announced(address_file(server.database))
    thief.answer = lambda path: httpx.get(server.url + path).content
    with Client(thief.url, proving=Proving(thief.url, server.token, lambda: own)) as client, pytest.raises(Unproved):
        client.tasks()
    moved = Announcement(url=thief.url, key=own.key, pid=own.pid, since=own.since)
    with Client(thief.url, proving=Proving(thief.url, server.token, lambda: moved)) as client, pytest.raises(Unproved):
        client.tasks()
    assert not thief.knows(server.token)


def test_the_server_of_here_proves_itself_and_is_used(server: RunningServer) -> None:
    own = {name: value for name, value in server.environment.items() if name != "RECEIVER_PUBLIC_URL"}
    assert run("tasks", "--json", env=own).exit_code == 0
    assert run("tasks", env={**own, "RECEIVER_ADMIN_TOKEN": "another-token-of-somebody"}).exit_code == 4


def test_a_challenge_is_answered_only_when_it_is_sent_and_differently_each_time(server: RunningServer) -> None:
    def proof(challenge: str) -> str:
        said: str = httpx.get(f"{server.url}/healthz", params={"challenge": challenge}).json()["proof"]
        return said

    assert httpx.get(f"{server.url}/healthz").json() == {"status": "ok"}
    assert proof("a") == announced(address_file(server.database)).proof(server.token, "a")
    assert len({proof(each) for each in ("a", "b", "", "\x00", "x" * 4000)}) == 5


def test_a_proof_is_asked_for_again_when_it_is_old(server: RunningServer) -> None:
    now, asked = 0.0, 0

    def known() -> Announcement:
        nonlocal asked
        asked += 1
        return announced(address_file(server.database))

    proving = Proving(server.url, server.token, known, monotonic=lambda: now)
    with Client(server.url, proving=proving) as client:
        client.tasks()
        client.tasks()
        assert asked == 1
        now = 1.0
        client.tasks()
        assert asked == 2


def test_a_server_that_has_moved_is_named(server: RunningServer) -> None:
    own = announced(address_file(server.database))
    before = "http://127.0.0.1:1"
    with (
        Client(before, proving=Proving(before, server.token, lambda: own)) as client,
        pytest.raises(Unproved, match=f"now at {server.url}"),
    ):
        client.tasks()


def test_without_a_token_nothing_is_sent(tmp_path: Path, thief: Thief) -> None:
    announce(address_file(tmp_path / "receiver.db"), thief.url, 0.0)
    refused(tasks(tmp_path / "receiver.db", None), reason="no admin token is known here")
    assert thief.heard == []
