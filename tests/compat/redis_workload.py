"""A redis as a workload: verifies itself by the digest of its data, and by still answering and taking writes."""

import os
import shutil
import socket

SERVER = shutil.which("redis-server") or "/usr/bin/redis-server"
KEYS = 20000


class Client:
    """As much of redis's protocol as is needed here; the socket is in the workload's directory."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(path)
        self.stream = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()
        self.socket.close()

    def __call__(self, *words):
        request = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        self.socket.sendall(request.encode())
        line = self.stream.readline().rstrip().decode()
        if line.startswith("$"):
            return self.stream.read(int(line[1:]) + 2)[:-2].decode()
        if line.startswith("-"):
            raise OSError(line)
        return line[1:]


def redis_run(base, failure):
    """A class like `base` (run-workload's Run) whose program is redis."""

    class RedisRun(base):
        digest = None

        def command(self):
            # A port nobody else has: taken by the kernel, given up again, and then redis's.
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            return [SERVER, "--port", str(port), "--bind", "127.0.0.1", "--unixsocket", self.path("socket"),
                    "--dir", self.home, "--save", "", "--appendonly", "no", "--enable-debug-command", "yes"]

        def answers(self):
            try:
                with Client(self.path("socket")) as redis:
                    return redis("PING") == "PONG"
            except OSError:  # its name is there before it listens
                return False

        def run(self):
            self.start()
            self.wait_for("redis", self.answers, 10)
            with Client(self.path("socket")) as redis:
                redis("DEBUG", "POPULATE", str(KEYS), "key", "300")
                for n in range(100):
                    redis("SET", f"own:{n}", os.urandom(20).hex())
                self.digest = redis("DEBUG", "DIGEST")
            self.restore()
            with Client(self.path("socket")) as redis:
                digest = redis("DEBUG", "DIGEST")
                if digest != self.digest:
                    raise failure(f"the digest was {self.digest} and is {digest}")
                redis("SET", "after", "the move")
                if redis("GET", "after") != "the move":
                    raise failure("it does not keep what is written")
                if redis("DBSIZE") != str(KEYS + 101):
                    raise failure("it has another number of keys")
    return RedisRun
