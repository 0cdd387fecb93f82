"""What a fault holds is let go, also when that is said before the request gets to that place."""

from __future__ import annotations

import socket
from pathlib import Path

from ufile_cli.emulator.server import Emulator


def test_released_before_it_hangs(tmp_path: Path) -> None:
    with Emulator(tmp_path) as emulator:
        emulator.faults.add(call="put", hang="body")
        with socket.create_connection(("127.0.0.1", emulator.port), 10) as client:
            head = f"PUT /k HTTP/1.1\r\nHost: {emulator.host_of('demo')}\r\n"
            head += "Content-Type: text/plain\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
            client.sendall(head.encode())
            assert client.recv(100).startswith(b"HTTP/1.1 100")  # its faults are decided by now
            emulator.faults.clear()
            client.sendall(b"abc")
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
