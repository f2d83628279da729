"""What a command shows on a terminal."""

import os
import pty
import re
import threading
import time

REDRAWN = r"\r\x1b\[K"  # what a line begins with that may be drawn over


class Terminal:
    def __enter__(self) -> "Terminal":
        self._master, self.end = pty.openpty()
        self._parts: list[tuple[float, bytes]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_) -> None:
        os.close(self.end)
        self._reader.join(10)
        os.close(self._master)

    def _read(self) -> None:
        try:
            while part := os.read(self._master, 65536):
                self._parts.append((time.monotonic(), part))
        except OSError:  # nobody has the other end open any more
            pass

    def text(self) -> str:
        return b"".join(part for _, part in self._parts).decode("ascii")

    def lines(self) -> list[tuple[float, str]]:
        """Whatever was written into a line, and when: what was drawn over later, too."""
        times = [at for at, part in self._parts for _ in part]
        found, begin = [], 0
        for end in re.finditer(rf"{REDRAWN}|\r\n|$", self.text()):
            if end.start() > begin:
                found.append((times[begin], self.text()[begin:end.start()]))
            begin = end.end()
        return found
