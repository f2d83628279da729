#!/usr/bin/python3
"""The load of a redis: steps (steps.py) as SETs, one after another, each acknowledged before the next.

  redis_load.py write PORT FILE    until SIGTERM; appends the number of each acknowledged step to FILE
  redis_load.py verify PORT        prints the step that the data are the state after, or what is wrong with them
"""

import os
import signal
import socket
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

import steps  # noqa: E402


class Client:
    def __init__(self, port: int):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.file = self.socket.makefile("rb")

    def send(self, *words: bytes) -> None:
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))

    def answer(self) -> bytes | None:
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the connection ended")
        if line[:1] == b"$":
            size = int(line[1:])
            return self.file.read(size + 2)[:-2] if size >= 0 else None
        if line[:1] == b"-":
            raise RuntimeError(line.decode().strip())
        return line[1:-2]


def key(index: int) -> bytes:
    return b"place:%d" % index


def write(port: int, path: str) -> None:
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    client, log = Client(port), os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    step = -1
    while not stop:
        step += 1
        try:
            client.send(b"SET", key(steps.place(step)), steps.pattern(step))
            client.answer()
        except OSError:
            return  # the server was ended by its last dump
        os.write(log, b"%d\n" % step)
        if step >= steps.PLACES:
            time.sleep(0.001)


def verify(port: int) -> None:
    client = Client(port)
    for index in range(steps.PLACES):
        client.send(b"GET", key(index))
    values = [client.answer() or b"" for _ in range(steps.PLACES)]
    now = max((int(v[:v.index(b":")]) for v in values if v), default=-1)
    print(steps.check(values, now) or now)


if sys.argv[1] == "write":
    write(int(sys.argv[2]), sys.argv[3])
else:
    verify(int(sys.argv[2]))
