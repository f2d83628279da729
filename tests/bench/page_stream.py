"""One dump to a page server of the same program: how long it took, how long the process was frozen, and what was written. The
process goes on."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from page_streams import PageServer  # noqa: E402

# Of CRIU's time.
TARGETS = {"plain": 0.7, "tls": 0.5}
CRIT = Path(__file__).resolve().parents[1] / "compat" / "crit"


def frozen_in(images: Path, suite: str, parts: Sequence[str]) -> float:
    """Seconds that the process stood still: of these fields of the program's statistics."""
    text = subprocess.run([CRIT, suite, "decode", "-i", images / "stats-dump"], check=True, capture_output=True, text=True).stdout
    stats = json.loads(text)["entries"][0]["dump"]
    return sum(stats[part] for part in parts) / 1e6


def bytes_in(images: Path) -> int:
    return sum(file.stat().st_size for file in images.iterdir() if file.suffix == ".img")


def measure(program: list[str], pid: int, top: Path, secured: list[str], suite: str, frozen: Sequence[str]) -> dict[str, float]:
    """`total`: seconds from the start of the dump to its end; the server has everything by then."""
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
        return {"total": took, "frozen": frozen_in(images, suite, frozen), "bytes": bytes_in(images) + bytes_in(pages)}
    finally:
        shutil.rmtree(images)
        shutil.rmtree(pages)
