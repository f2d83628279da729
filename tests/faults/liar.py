#!/usr/bin/python3
"""Stands between a source and the page server of its destination, with the certificates of both, and passes on what the one
says to the other, until somebody wants a lie. Runs on the source's host, where the way to the page server leads to it
(wire.divert).

  liar.py PAGE-SERVER SERVER-CERTS CLIENT-CERTS LIES

Once there is a file LIES, "MIGRATION BYTES", the next frame of pages in one of that migration's streams says that its payload
has so many bytes: a number, or one with a sign, which is added to what is true. The file is removed with that.
"""

import select
import socket
import ssl
import struct
import sys
import threading
from pathlib import Path

HELLO, FRAME = 128, 48  # docs/page-protocol.md
RUN = 16
PAYLOAD_AT = 28
PAGES = 1  # a kind of frame
NOT_DIVERTED = 1  # the mark of packets that shall reach the page server
IP_TRANSPARENT = 19  # an address that is not this host's


def context(protocol: int, certs: str) -> ssl.SSLContext:
    made = ssl.SSLContext(protocol)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(f"{certs}/ca.crt")
    made.load_cert_chain(f"{certs}/node.crt", f"{certs}/node.key")
    return made


def received(stream: ssl.SSLSocket) -> bytes | None:
    """None: nothing yet. Empty: it has said goodbye."""
    stream.settimeout(0)
    try:
        return stream.recv(1 << 16)
    except ssl.SSLWantReadError:
        return None
    except OSError:  # it has gone without a goodbye
        return b""
    finally:
        stream.settimeout(60)


def say_goodbye(stream: ssl.SSLSocket) -> None:
    """And hear the rest afterwards."""
    stream.settimeout(0)
    try:
        stream.unwrap()
    except OSError:  # the other side's goodbye has not come yet
        pass


class Frames:
    """Takes a stream to pieces: the hello, then frames."""

    def __init__(self, lies: Path):
        self._lies, self._rest, self._migration = lies, b"", ""

    def pass_on(self, more: bytes) -> bytes:
        self._rest += more
        out = b""
        while piece := self._piece():
            self._rest = self._rest[len(piece):]
            if not self._migration:
                self._migration = piece[64:].rstrip(b"\0").decode()
            elif piece[4] == PAGES:
                piece = self._lied_about(piece)
            out += piece
        return out

    def _piece(self) -> bytes:
        if not self._migration:
            return self._rest[:HELLO] if len(self._rest) >= HELLO else b""
        if len(self._rest) < FRAME:
            return b""
        runs, = struct.unpack_from("<H", self._rest, 6)
        name, = struct.unpack_from("<H", self._rest, 32)
        length = FRAME + runs * RUN + name + payload_of(self._rest)
        return self._rest[:length] if len(self._rest) >= length else b""

    def _lied_about(self, frame: bytes) -> bytes:
        words = self._lies.read_text().split() if self._lies.exists() else []
        if words[:1] != [self._migration]:
            return frame
        self._lies.unlink()
        said = int(words[1]) + (payload_of(frame) if words[1][0] in "+-" else 0)
        return frame[:PAYLOAD_AT] + struct.pack("<I", said) + frame[PAYLOAD_AT + 4:]


def payload_of(frame: bytes) -> int:
    return struct.unpack_from("<I", frame, PAYLOAD_AT)[0]


class Liar:
    def __init__(self, server: str, server_certs: str, client_certs: str, lies: str):
        host, _, port = server.rpartition(":")
        self._address = (host, int(port))
        self._as_server = context(ssl.PROTOCOL_TLS_SERVER, server_certs)
        self._as_client = context(ssl.PROTOCOL_TLS_CLIENT, client_certs)
        self._lies = Path(lies)

    def serve(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(self._address)
        listener.listen()
        print("listening", flush=True)
        while True:
            plain, _ = listener.accept()
            threading.Thread(target=self._between, args=(plain,), daemon=True).start()

    def _between(self, plain: socket.socket) -> None:
        onward = socket.socket()
        onward.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, NOT_DIVERTED)
        onward.connect(self._address)
        with self._as_server.wrap_socket(plain, server_side=True) as client, self._as_client.wrap_socket(onward) as server:
            frames = Frames(self._lies)
            heard = [client, server]
            while server in heard:
                if not any(stream.pending() for stream in heard):
                    select.select(heard, [], [])
                if client in heard and (data := received(client)) is not None:
                    if data:
                        server.sendall(frames.pass_on(data))
                    else:
                        heard.remove(client)
                        say_goodbye(server)
                if (data := received(server)) is not None:
                    client.sendall(data) if data else heard.remove(server)
            say_goodbye(client)


if __name__ == "__main__":
    Liar(*sys.argv[1:]).serve()
