"""The embedded broker: whole messages, each taken once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Empty

import pytest
from kombu import Connection
from kombu.exceptions import ChannelError

from model.jobs.folder_broker import Channel, Transport, folder_options


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    """A connection to a broker in a folder."""
    with Connection(
        transport=f"{Transport.__module__}:{Transport.__name__}",
        transport_options=folder_options(tmp_path / "broker", 0.01),
    ) as opened:
        yield opened


def channel_of(connection: Connection) -> Channel:
    """A channel of our class."""
    channel = connection.channel()
    assert isinstance(channel, Channel)
    return channel


def test_messages_come_in_order_and_once(connection: Connection) -> None:
    channel = channel_of(connection)
    for number in range(3):
        channel._put("trivium.cpu", {"n": number})
    channel._put("trivium.cuda", {"n": 9})
    assert [channel._get("trivium.cpu")["n"] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(Empty):
        channel._get("trivium.cpu")
    assert channel._get("trivium.cuda") == {"n": 9}


def test_many_takers_share_the_messages(connection: Connection) -> None:
    channel = channel_of(connection)
    for number in range(60):
        channel._put("q", {"n": number})
    taken: list[int] = []

    def take_all() -> None:
        mine = channel_of(connection)
        try:
            while True:
                taken.append(mine._get("q")["n"])
        except Empty:
            return

    takers = [threading.Thread(target=take_all) for _ in range(4)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join()
    assert sorted(taken) == list(range(60))


def test_a_reader_never_sees_half_a_message(connection: Connection) -> None:
    channel = channel_of(connection)
    done = threading.Event()

    def write() -> None:
        writer = channel_of(connection)
        for number in range(200):
            writer._put("q", {"n": number, "pad": "x" * 5000})
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    count = 0
    while not done.is_set() or count < 200:
        try:
            assert len(channel._get("q")["pad"]) == 5000
            count += 1
        except Empty:
            assert not done.is_set() or count == 200
    thread.join()


def test_a_message_that_is_no_json_is_dropped(
    connection: Connection, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    channel = channel_of(connection)
    inbox = tmp_path / "broker" / "messages"
    (inbox / "000_0.q.msg").write_bytes(b"")
    (inbox / "000_1.q.msg").write_bytes(b"\xff\xfe secret")
    channel._put("q", {"n": 1})
    assert channel._get("q") == {"n": 1}
    assert not list(inbox.iterdir())
    assert not list((tmp_path / "broker" / "taken").iterdir())
    assert "malformed" in caplog.text and "secret" not in caplog.text


def test_a_folder_that_vanished_is_a_channel_error(
    connection: Connection, tmp_path: Path
) -> None:
    channel = channel_of(connection)
    (tmp_path / "broker" / "messages").rmdir()
    with pytest.raises(ChannelError):
        channel._put("q", {})
    with pytest.raises(ChannelError):
        channel._get("q")
