"""Makes increments of whole dumps of CRIU, as CRIU itself writes them where the kernel tells it what was written.

    increments.py [--old] FIRST NEXT...     run by the python of the suite that wrote them, which has crit's modules

A page that is the same in the dump before is left to that one, `parent`. --old: with the holes of a CRIU that did not know
flags yet.
"""

import os
import sys

import pycriu

PAGE = 4096
PARENT = 1


def load(path):
    with open(path, "rb") as file:
        return pycriu.images.load(file)


def store(path, image):
    with open(path, "wb") as file:
        pycriu.images.dump(image, file)


def counted(entry):
    """The field for the number of pages: since 4.2 there is a second one."""
    return "nr_pages" if "nr_pages" in entry else "compat_nr_pages"


def pages_of(directory, name):
    """The image, the file of its pages, and its pages: (entry, address, content). Those of a whole dump are all there."""
    image = load(os.path.join(directory, name))
    path = os.path.join(directory, f"pages-{image['entries'][0]['pages_id']}.img")
    pages = []
    with open(path, "rb") as file:
        for entry in image["entries"][1:]:
            for number in range(entry[counted(entry)]):
                pages.append((entry, entry["vaddr"] + number * PAGE, file.read(PAGE)))
        if file.read(1) or (pages and len(pages[-1][2]) < PAGE):
            sys.exit(f"{name}: its pages are not those of a whole dump")
    return image, path, pages


def run_of(entry, address, hole, old):
    run = {**entry, "vaddr": address, counted(entry): 0}
    if old:
        run.pop("flags", None)
    if hole:
        run.update({"in_parent": True} if old else {"flags": PARENT})
    return run


def make_increment(parent, directory, name, old):
    before = {address: content for _, address, content in pages_of(parent, name)[2]}
    image, path, pages = pages_of(directory, name)
    runs, last = image["entries"][:1], None
    with open(path, "wb") as file:
        for entry, address, content in pages:
            hole = before.get(address) == content
            if last != (id(entry), hole):
                runs.append(run_of(entry, address, hole, old))
                last = (id(entry), hole)
            runs[-1][counted(entry)] += 1
            if not hole:
                file.write(content)
    store(os.path.join(directory, name), {**image, "entries": runs})


def main():
    words = sys.argv[1:]
    old = words[0] == "--old"
    chain = words[old:]
    # The last one first: it is compared with one that is whole still.
    for parent, directory in reversed(list(zip(chain, chain[1:]))):
        for name in sorted(os.listdir(directory)):
            if name.startswith("pagemap-") and os.path.exists(os.path.join(parent, name)):
                make_increment(parent, directory, name, old)
        os.symlink(os.path.relpath(parent, directory), os.path.join(directory, "parent"))


main()
