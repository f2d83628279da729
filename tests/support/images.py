"""A directory of images as messages that can be changed, by this project's own definitions (common/image/*.proto).

What stands in front of the records (magic words) and behind a record (the content of a pipe) is kept as it is.
"""

import re
import struct
import subprocess
from pathlib import Path

from google.protobuf import descriptor_pb2, message_factory

ROOT = Path(__file__).resolve().parents[2]

# Stem of the name -> the message of each record, and the field that says how many bytes follow a record.
KINDS = {
    "core": ("CoreEntry", None),
    "cpuinfo": ("CpuinfoEntry", None),
    "fdinfo": ("FdinfoEntry", None),
    "fifo-data": ("PipeDataEntry", "bytes"),
    "filelocks": ("FileLockEntry", None),
    "files": ("FileEntry", None),
    "fs": ("FsEntry", None),
    "ids": ("TaskKobjIdsEntry", None),
    "inventory": ("InventoryEntry", None),
    "memfd": ("MemfdInodeEntry", None),
    "mm": ("MmEntry", None),
    "pipes-data": ("PipeDataEntry", "bytes"),
    "pstree": ("PstreeEntry", None),
    "seccomp": ("SeccompEntry", None),
    "sk-queues": ("SkPacketEntry", "length"),
    "timens": ("TimensEntry", None),
    "tty-data": ("TtyDataEntry", None),
    "tty-info": ("TtyInfoEntry", None),
}
MAGIC = 8  # bytes
INVENTORY_MAGIC = 4


def definitions() -> dict:
    protos = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("common/image/*.proto"))
    compiled = subprocess.run(["protoc", "-I.", "--include_imports", "--descriptor_set_out=/dev/stdout", *protos],
                              cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    return message_factory.GetMessages(descriptor_pb2.FileDescriptorSet.FromString(compiled).file)


class Record:
    def __init__(self, message, behind: bytes):
        self.message = message
        self.behind = behind


class Image:
    """One file."""

    def __init__(self, path: Path, message, length_field: str | None):
        self.path = path
        self.records = []
        whole = path.read_bytes()
        at = INVENTORY_MAGIC if path.stem == "inventory" else MAGIC
        self.magic = whole[:at]
        while at < len(whole):
            size, = struct.unpack_from("<I", whole, at)
            at += 4 + size
            record = message.FromString(whole[at - size:at])
            behind = getattr(record, length_field) if length_field else 0
            self.records.append(Record(record, whole[at:at + behind]))
            at += behind

    def write(self) -> None:
        with open(self.path, "wb") as file:
            file.write(self.magic)
            for record in self.records:
                encoded = record.message.SerializeToString()
                file.write(struct.pack("<I", len(encoded)) + encoded + record.behind)


class ImageSet:
    def __init__(self, directory: Path):
        self.directory = directory
        self.messages = definitions()

    def files(self, stem: str) -> list[Path]:
        """By their ids: NAME.img, or NAME-ID.img."""
        found = [path for path in self.directory.glob("*.img") if re.fullmatch(f"{stem}(-[0-9a-f]+)?", path.stem)]
        return sorted(found, key=lambda path: (len(path.name), path.name))

    def images(self, stem: str) -> list[Image]:
        """Those of threads as they were made: in the order of their numbers, unless these have begun anew meanwhile."""
        name, length_field = KINDS[stem]
        images = [Image(path, self.messages[f"godwit.image.{name}"], length_field) for path in self.files(stem)]
        if stem == "core":
            leader = next((at for at, image in enumerate(images) if image.records[0].message.HasField("tc")), 0)
            images = images[leader:] + images[:leader]
        return images
