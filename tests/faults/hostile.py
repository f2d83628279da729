#!/usr/bin/python3
"""A client that means no good, run on a host of the lab. Prints as JSON how the server ended it.

  hostile.py handshake ADDRESS CERTS              only connects
  hostile.py frame ADDRESS CERTS LENGTH           a control message that announces LENGTH bytes
  hostile.py pages ADDRESS CERTS MIGRATION        a page stream with a wrong token, for a migration that is under way
  hostile.py garbage ADDRESS CERTS                bytes that begin no page stream
  hostile.py http ADDRESS CERTS REQUEST           a request of this first line and no others
"""

import json
import socket
import ssl
import struct
import sys

PATIENCE_S = 15


def connect(address: str, certs: str) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # it is the server that has to be careful
    context.load_cert_chain(f"{certs}/node.crt", f"{certs}/node.key")
    host, port = address.rsplit(":", 1)
    plain = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
    return context.wrap_socket(plain)


def page_hello(migration: str, token: bytes) -> bytes:
    """docs/page-protocol.md"""
    head = struct.pack("<8sHHIIIII", b"GDWPAGE1", 1, 1, 4096, 0, 2, 0, 0)
    return head + token.ljust(32, b"\0") + migration.encode().ljust(64, b"\0")


def answer_of(stream: ssl.SSLSocket) -> dict:
    """Whatever the server says until it hangs up."""
    said = b""
    try:
        while part := stream.recv(4096):
            said += part
            if len(said) > 1 << 20:
                return {"end": "it talks on", "said": said[:64].hex()}
        return {"end": "closed", "said": said.hex()}
    except TimeoutError:
        return {"end": "open", "said": said.hex()}
    except OSError as error:  # alerts are among them
        return {"end": "refused", "why": str(error), "said": said.hex()}


def attack(mode: str, address: str, certs: str, *more: str) -> dict:
    try:
        with connect(address, certs) as stream:
            if mode == "frame":
                stream.sendall(struct.pack("<I", int(more[0])) + b"\x08\x01")
            elif mode == "pages":
                stream.sendall(page_hello(more[0], b"not the token"))
            elif mode == "http":
                stream.sendall(f"{more[0]}\r\n\r\n".encode())
            elif mode == "garbage":
                stream.sendall(b"\xff" * 4096)
            return answer_of(stream)
    except OSError as error:
        return {"end": "refused", "why": str(error), "said": ""}


if __name__ == "__main__":
    print(json.dumps(attack(*sys.argv[1:])))
