"""One dump to a page server of the same program, timed. The process goes on."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from page_streams import PageServer  # noqa: E402

# Of CRIU's time.
TARGETS = {"plain": 0.7, "tls": 0.5}


def measure(program: list[str], pid: int, top: Path, secured: list[str]) -> float:
    """Seconds from the start of the dump to its end; the server has everything by then."""
    images, pages = top / "images", top / "pages"
    images.mkdir()
    try:
        with PageServer(program, pages, secured) as server:
            began = time.monotonic()
            done = subprocess.run([*program, "dump", "-t", str(pid), "-D", str(images), "-R", *server.client_options(),
                                   *secured], stdin=subprocess.DEVNULL, capture_output=True, text=True)
            took = time.monotonic() - began
            if done.returncode or server.wait():
                raise RuntimeError(f"{' '.join(program)}: {done.stderr}{server.said()}")
        return took
    finally:
        shutil.rmtree(images)
        shutil.rmtree(pages)
