"""One change of a set of images, written as on the lines of tests/workloads/broken.txt:

  fs.umask=0x12                        a field of the first record
  core[2].thread_core.sched_nice+=1    of the third; `core` has a record for each thread, the leader's first
  files[reg.pos=7].reg.flags^=0x400    of the first record with this value
  mm.vmas[guards].guards[0]+=4096      the first number in the first mapping that has any
  files[isk].isk.opts.more[level=0,name=10].value[0]=1      a byte of the element with these two values
  fdinfo[fd=200]=none                  a record, an element or a field less
  pstree[1].pgid=@pstree[0].pgid       the value that another field has
  pages[fill=SEED]^=1                  the byte at which something begins that a workload has filled with this seed
  sk-queues[text=three]^=1             or that begins with this text
"""

import re
from pathlib import Path

STEP = re.compile(r"\.?([\w-]+)(?:\[([^\]]*)\])?")
CHANGE = re.compile(r"((?:\.?[\w-]+(?:\[[^\]]*\])?)+?)(=|\+=|\^=)(.*)", re.DOTALL)
WORD = 2**64
PAGE = 4096
NAMES = {"false": 0, "true": 1}


class NotThere(Exception):
    """Nothing is what a selector asks for."""


def mix(value: int) -> int:
    """As in tests/workloads/workload.cc."""
    value = (value + 0x9e3779b97f4a7c15) % WORD
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9 % WORD
    value = (value ^ value >> 27) * 0x94d049bb133111eb % WORD
    return value ^ value >> 31


def number(text: str) -> int:
    return NAMES[text] if text in NAMES else int(text, 0)


def read_as(kind: type, text: str):
    if kind is str:
        return text
    return text.encode() if kind is bytes else kind(number(text))


def combined(old, operator: str, text: str):
    if operator == "=":
        return read_as(type(old), text)
    return old + number(text) if operator == "+=" else old ^ number(text)


def is_repeated(value) -> bool:
    return hasattr(value, "append")


def value_at(message, fields: str):
    """The value of a field of fields; none when one of them is not there."""
    *outer, last = fields.split(".")
    for field in outer:
        if not message.HasField(field):
            return None
        message = getattr(message, field)
    value = getattr(message, last)
    return value if is_repeated(value) and value or not is_repeated(value) and message.HasField(last) else None


def holds(message, condition: str) -> bool:
    fields, equals, wanted = condition.partition("=")
    value = value_at(message, fields)
    return value is not None and (not equals or value == read_as(type(value), wanted))


def index_of(messages, selector: str | None) -> int:
    if selector is None:
        return 0
    if re.fullmatch(r"-?\d+", selector):
        return int(selector)
    for index, message in enumerate(messages):
        if all(holds(message, condition) for condition in selector.split(",")):
            return index
    raise NotThere(f"nothing has {selector}")


def change_field(message, field: str, selector: str | None, operator: str, text: str) -> str:
    """Changes one value of a message; says how."""
    value = getattr(message, field)
    repeated = is_repeated(value)
    if text == "none":
        if selector is None:
            message.ClearField(field)
            return f"without {field}"
        index = index_of(value, selector)
        gone = str(value[index])
        del value[index]
        return f"without {' '.join(gone.split())}"
    if selector is None and not repeated:
        new = combined(value, operator, text)
        setattr(message, field, new)
        return f"{value!r} -> {new!r}"
    index = int(selector)
    if repeated:
        old, value[index] = value[index], combined(value[index], operator, text)
        return f"{old!r} -> {value[index]!r}"
    changed = bytearray(value)
    old, changed[index] = changed[index], combined(changed[index], operator, text)
    setattr(message, field, bytes(changed))
    return f"byte {index}: {old:#x} -> {changed[index]:#x}"


def change_content(files: list[Path], selector: str, operator: str, text: str) -> str:
    kind, _, wanted = selector.partition("=")
    content = mix(number(wanted)).to_bytes(8, "little") if kind == "fill" else wanted.encode()
    found = [(path, match.start()) for path in files for match in re.finditer(re.escape(content), path.read_bytes())]
    if not found:
        raise NotThere(f"nothing begins with {selector}")
    # The second word of what is filled from another seed may be the same: a page's beginning is what is meant.
    path, at = min(found, key=lambda place: place[1] % PAGE != 0)
    with open(path, "r+b") as file:
        file.seek(at)
        old = file.read(1)[0]
        file.seek(at)
        file.write(bytes([combined(old, operator, text)]))
    return f"byte {at} of {path.name}, one of {len(found)}"


def value_of(images, path: str):
    (stem, selector), *steps = STEP.findall(path)
    messages = [record.message for image in images.images(stem) for record in image.records]
    value = messages[index_of(messages, selector or None)]
    for field, inner in steps:
        value = getattr(value, field)
        if is_repeated(value):
            value = value[index_of(value, inner or None)]
    return value


def apply(images, change: str) -> str:
    """Makes the change in an images.ImageSet; says what it was."""
    match = CHANGE.fullmatch(change)
    if not match:
        raise ValueError(f"not a change: {change}")
    path, operator, text = match.groups()
    if text.startswith("@"):
        text = str(value_of(images, text[1:]))
    (stem, selector), *steps = STEP.findall(path)
    steps = [(field, inner or None) for field, inner in steps]
    if selector.startswith(("fill=", "text=")):
        return change_content(images.files(stem), selector, operator, text)
    all_images = images.images(stem)
    places = [(image, index) for image in all_images for index in range(len(image.records))]
    messages = [image.records[index].message for image, index in places]
    image, index = places[index_of(messages, selector or None)]
    if not steps:
        said = f"without {' '.join(str(image.records.pop(index).message).split())}"
    else:
        message = image.records[index].message
        for field, inner in steps[:-1]:
            value = getattr(message, field)
            message = value[index_of(value, inner)] if is_repeated(value) else value
        before = message.SerializeToString()
        said = change_field(message, *steps[-1], operator, text)
        if message.SerializeToString() == before:
            raise NotThere(f"it was so already: {said}")
    image.write()
    return said
