"""Stands between a CRIU that dumps and a page server, and makes a difference of a dump that is whole.

Its session is forwarded as it comes, but for the pages that the session before had: they become holes, as in a dump that
knows what was written. Before, the server is asked for its parents, as a pre-dump asks it while the processes stand still.
"""

import socket
import ssl
import struct
import threading

from page_streams import Certificates

PAGE = 4096
# The fixed header of each framing: command and flags, pages, address, object.
HEADERS = {24: struct.Struct("<IIQQ"), 32: struct.Struct("<I4xQQQ")}
OPEN2, PARENT, ADD_F = 4, 5, 6
CLOSE, FORCE_CLOSE = 0x1023, 0x1024
HOLE, PRESENT = 1, 4  # flags, in the upper half of the command
NO_SUCH_OBJECT = (1 << 30) - 1 << 8 | 1  # a process


class Ended(Exception):
    pass


def receive(peer: socket.socket, size: int) -> bytes:
    """So many bytes; none when the peer ends in front of them."""
    data = bytearray()
    while len(data) < size:
        part = peer.recv(size - len(data))
        if not part:
            if data:
                raise Ended(f"{len(data)} of {size} bytes")
            break
        data += part
    return bytes(data)


class Differences:
    """One session. `before`: the one before it; None: this one stays whole. `certificates`: for TLS on both of its sides."""

    def __init__(self, header: int, port: int, before: "Differences | None" = None,
                 certificates: Certificates | None = None):
        self.certificates = certificates
        self.header, self.server_port = HEADERS[header], port
        self.known, self.old_pages = (before.objects, before.pages) if before else (set(), {})
        self.objects, self.pages = set(), {}  # that are opened; (object, address) -> content
        self.holes, self.problem = 0, None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def __enter__(self) -> "Differences":
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)  # nobody may have come
        self.thread.join()
        self.listener.close()

    def run(self) -> None:
        try:
            client = self.listener.accept()[0]
        except OSError:
            return
        with client, socket.create_connection(("127.0.0.1", self.server_port)) as server:
            try:
                if self.certificates:
                    self.secured_session(client, server)
                else:
                    self.session(client, server)
            except (Ended, OSError) as problem:
                self.problem = problem

    def secured_session(self, client: socket.socket, server: socket.socket) -> None:
        as_server = self.context(ssl.PROTOCOL_TLS_SERVER)
        as_server.num_tickets = 0  # CRIU takes one for an error
        with as_server.wrap_socket(client, server_side=True) as from_client, \
                self.context(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(server, server_hostname="127.0.0.1") as to_server:
            self.session(from_client, to_server)
            for peer in (from_client, to_server):
                peer.unwrap()

    def context(self, protocol: int) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(self.certificates.ca)
        context.load_cert_chain(self.certificates.certificate, self.certificates.key)
        return context

    def session(self, client: socket.socket, server: socket.socket) -> None:
        if self.known:
            self.ask_for_parents(server)
        while head := receive(client, self.header.size):
            command, count, address, what = self.header.unpack(head)
            flags, command = command >> 16, command & 0xFFFF
            if command == ADD_F:
                content = receive(client, count * PAGE) if flags & PRESENT else b""
                self.add(server, flags, address, what, content)
                continue
            server.sendall(head)
            if command == OPEN2:
                self.objects.add(what)
                answer = receive(server, 1)
                if answer != bytes([what in self.known]):
                    raise Ended(f"the answer to whether object {what:#x} has a parent is {answer}")
                # A dump that is not tracked would miss the time of the one before in the images of it.
                client.sendall(b"\0")
            elif command in (CLOSE, FORCE_CLOSE):
                client.sendall(receive(server, 4))
            else:
                raise Ended(f"command {command:#x}, which no dump has")

    def ask_for_parents(self, server: socket.socket) -> None:
        for what in [*sorted(self.known), NO_SUCH_OBJECT]:
            server.sendall(self.header.pack(PARENT, 0, 0, what))
            answer, = struct.unpack("<i", receive(server, 4))
            if answer != (what in self.known):
                raise Ended(f"the answer to whether there is an object {what:#x} is {answer}")

    def add(self, server: socket.socket, flags: int, address: int, what: int, content: bytes) -> None:
        """A run of pages, as runs of those that are new and of holes."""
        runs = []
        for at in range(0, len(content), PAGE):
            page = content[at:at + PAGE]
            self.pages[what, address + at] = page
            hole = self.old_pages.get((what, address + at)) == page
            if not runs or runs[-1][0] != hole:
                runs.append((hole, address + at, []))
            runs[-1][2].append(page)
        for hole, start, pages in runs:
            command = ADD_F | (HOLE if hole else flags) << 16
            server.sendall(self.header.pack(command, len(pages), start, what) + (b"" if hole else b"".join(pages)))
            self.holes += len(pages) if hole else 0
