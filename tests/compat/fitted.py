"""Golden sets on a machine that is not the one they were made on.

A restore refuses what this CPU or this kernel has not, or has otherwise. The programs of the sets use none of it: they have no
library, look at no register but the general ones, and never call the vdso. So it is taken out of a copy of the set.
"""

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from golden_set import GOLDEN, HERE, run

sys.path.insert(0, str(HERE.parent / "support"))
from images import ImageSet  # noqa: E402

ANOTHER_VDSO = "this kernel's vdso"
NO_COMPONENT = re.compile(r"extended state component (\d+)")
STATE_OF = {2: "ymmh_space", 3: "bndreg_state", 4: "bndcsr_state", 5: "opmask_reg", 6: "zmm_upper", 7: "hi16_zmm", 9: "pkru"}
IN_USE = 512  # bytes into the extended state: a bit for each component
VDSO, VVAR = 1 << 3, 1 << 12  # common/image/vma_status.h
PAGE = 4096


def copy_of(images: Path, place: Path) -> Path:
    """With what it rests on."""
    inside = images.relative_to(GOLDEN)
    shutil.copytree(GOLDEN / inside.parts[0], place / inside.parts[0], symlinks=True)
    return place / inside


def components_here(engine: str) -> int:
    """Of the extended state: those that this CPU has."""
    with tempfile.TemporaryDirectory() as place:
        run(engine, "cpuinfo", "dump", "-D", place)
        image, = ImageSet(Path(place)).images("cpuinfo")
        return image.records[0].message.x86_entry[0].all_xfeatures


def leave_out_component(images: Path, number: int) -> None:
    for image in ImageSet(images).images("core"):
        info = image.records[0].message.thread_info
        info.fpregs.xsave.xstate_bv &= ~(1 << number)
        info.fpregs.xsave.ClearField(STATE_OF[number])
        if info.HasField("xstate"):
            state = bytearray(info.xstate)
            in_use = int.from_bytes(state[IN_USE:IN_USE + 8], "little") & ~(1 << number)
            state[IN_USE:IN_USE + 8] = in_use.to_bytes(8, "little")
            info.xstate = bytes(state)
        image.write()


def vdso_here() -> tuple[int, int]:
    """Bytes of what stands in front of this kernel's vdso, and of that itself."""
    ranges = {}
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, *_, name = line.split()
        if name.startswith(("[vvar", "[vdso]")):
            ranges[name] = [int(end, 16) for end in span.split("-")]
    start, end = ranges["[vdso]"]
    return start - min(first for first, _ in ranges.values()), end - start


def exchange_vdso(images: Path) -> None:
    """The old one becomes memory like any other, where its pages have their place; this kernel's goes to where nothing is."""
    image, = ImageSet(images).images("mm")
    vmas = image.records[0].message.vmas
    before = [vma for vma in vmas if vma.status & VVAR]
    vdso, = (vma for vma in vmas if vma.status & VDSO)
    data, code = vdso_here()
    end = min(vma.start for vma in [*before, vdso]) - 16 * PAGE
    if any(vma.start < end and vma.end > end - data - code for vma in vmas):
        raise RuntimeError(f"{images}: no room for a vdso")
    new_data, new = type(vdso)(), type(vdso)()
    new_data.CopyFrom(before[0])
    new_data.start, new_data.end = end - code - data, end - code
    new.CopyFrom(vdso)
    new.start, new.end = end - code, end
    vdso.status &= ~VDSO
    rest = [vma for vma in vmas if not vma.status & VVAR]
    at = rest.index(vdso)
    kept = [type(vdso).FromString(vma.SerializeToString()) for vma in [*rest[:at], new_data, new, *rest[at:]]]
    del vmas[:]
    vmas.extend(kept)
    image.write()


def fit(engine: str, images: Path, refusal: str) -> str | None:
    """Takes out of a copy what a restore has refused; what that was. None: nothing that this machine lacks."""
    if component := NO_COMPONENT.search(refusal):
        number = int(component[1])
        if components_here(engine) >> number & 1:
            return None
        leave_out_component(images, number)
        return component[0]
    if ANOTHER_VDSO in refusal:
        exchange_vdso(images)
        return ANOTHER_VDSO
    return None


def wait_for_children() -> None:
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        pass


def restore(engine: str, images: Path, *words: object) -> list[str]:
    """Of a copy, by the first process of a PID namespace; what had to be taken out of it."""
    taken_out = []
    while True:
        try:
            run(engine, "restore", "-d", "-D", images, *words)
            return taken_out
        except RuntimeError as problem:
            what = fit(engine, images, str(problem))
            if not what or what in taken_out:
                raise
            taken_out.append(what)
            wait_for_children()  # what the restore has ended has its PID until then
