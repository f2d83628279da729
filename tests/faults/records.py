"""An agent's record file (agent/service/record_format.cc) from outside: whose records are not settled, and what is left
of it when the power fails before the last write was on the disk."""

import struct
from dataclasses import dataclass
from pathlib import Path

HEAD = struct.Struct("<8x8sII")  # magic, version, slots
HEAD_SIZE, COPY_SIZE = 4096, 512
VERSION = 2
COPY = struct.Struct("<8xQBBB5xQ")  # counter, side, phase, settled, epoch
MIGRATION, MIGRATION_SIZE = 40, 64
PHASES = {
    1: ("none", "frozen", "armed", "aborted", "thawed", "killing", "killed", "lost"),
    2: ("none", "building", "prepared", "refused", "committed", "resumed", "lost"),
}
SIDES = {1: "source", 2: "destination"}


@dataclass
class Record:
    offset: int  # of its newest copy
    counter: int
    side: str
    phase: str
    settled: bool
    epoch: int
    migration: str


def read(path: Path) -> list[Record]:
    data = path.read_bytes()
    magic, version, slots = HEAD.unpack_from(data)
    if (magic, version) != (b"GDWITREC", VERSION):
        raise RuntimeError(f"{path}: {magic} of version {version}")
    found = []
    for slot in range(slots):
        at = HEAD_SIZE + slot * 2 * COPY_SIZE
        newest = max((_copy(data, offset) for offset in (at, at + COPY_SIZE)), key=lambda record: record.counter)
        if newest.counter:
            found.append(newest)
    return found


def _copy(data: bytes, offset: int) -> Record:
    counter, side, phase, settled, epoch = COPY.unpack_from(data, offset)
    if not counter:
        return Record(offset, 0, "", "", True, 0, "")
    name = data[offset + MIGRATION:offset + MIGRATION + MIGRATION_SIZE].split(b"\0")[0].decode()
    return Record(offset, counter, SIDES[side], PHASES[side][phase - 1], bool(settled), epoch, name)


def unsettled(path: Path) -> list[str]:
    return [f"{record.migration} is {record.phase} at its {record.side}" for record in read(path) if not record.settled]


def last_epoch(paths: list[Path]) -> int:
    return max((record.epoch for path in paths for record in read(path)), default=0)


def phase_after(path: Path, side: str, epoch: int) -> str:
    """What is recorded of the attempts since that epoch; `none`: nothing."""
    newest = max((r for r in read(path) if r.side == side and r.epoch > epoch), key=lambda r: r.epoch, default=None)
    return newest.phase if newest else "none"


def take_back(path: Path, side: str, phase: str) -> None:
    """The write with which a record has come to this phase never reached the disk. Of a node that is off."""
    (record,) = [r for r in read(path) if (r.side, r.phase, r.settled) == (side, phase, False)]
    with open(path, "r+b") as file:
        file.seek(record.offset)
        file.write(bytes(COPY_SIZE))
