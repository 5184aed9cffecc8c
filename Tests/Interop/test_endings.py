"""How the gateway ends a call whose caller does not read: on a message's boundary, or not at all."""

import struct

import h2.events
import pytest

from contract import exec_request
from wire import SERVICE, Connection, message

pytestmark = pytest.mark.issue3
EXEC = SERVICE + "Exec"
INITIAL_WINDOW_SIZE = 4
DEADLINE_EXCEEDED, CANCEL = 4, 8
FLOOD = message(exec_request("cat /dev/zero").SerializeToString())


class Unread(Connection):
    """Gives each stream so much room, and never gives it back."""

    def __init__(self, g, window):
        super().__init__(g.address, g.token)
        self.h2.update_settings({INITIAL_WINDOW_SIZE: window})
        self.flush()

    def take(self, event):
        if isinstance(event, h2.events.DataReceived):
            self.responses[event.stream_id].data += event.data
        else:
            super().take(event)


def whole_messages(data):
    while data:
        assert len(data) >= 5
        length = struct.unpack(">I", data[1:5])[0]
        assert len(data) >= 5 + length, "a message was cut"
        data = data[5 + length :]
    return True


def test_a_deadline_within_a_stream_comes_after_a_whole_message(shared):
    for milliseconds in (50, 70, 90, 110, 130):
        with Connection(shared.address, shared.token) as connection:
            response = connection.call(EXEC, FLOOD, grpc_timeout=f"{milliseconds}m")
            assert response.status == DEADLINE_EXCEEDED
            assert whole_messages(response.data)


def test_a_deadline_with_a_closed_window_still_has_its_status(shared):
    with Unread(shared, 0) as connection:
        response = connection.call(EXEC, FLOOD, grpc_timeout="300m")
        assert response.data == b""
        assert response.status == DEADLINE_EXCEEDED


def test_a_message_that_cannot_be_finished_is_reset(shared):
    with Unread(shared, 3) as connection:
        response = connection.call(EXEC, FLOOD, grpc_timeout="300m")
        assert len(response.data) == 3
        assert response.reset == CANCEL
        assert response.status is None
