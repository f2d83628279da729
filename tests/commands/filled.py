"""A process whose memory is to be recognized: it fills it with a digit when it is told to, and says which ones it has."""

from command_case import CommandCase, wait_until

# Counts aloud meanwhile.
PROGRAM = """
import os, time
place, size, block = "{place}", {size}, 1 << 20
memory = bytearray(size)
def fill(digit):
    for at in range(0, size, block):
        memory[at:at + block] = digit * block
fill(b"0")
n = 0
while True:
    print(n, flush=True)
    n += 1
    if os.path.exists(place + "/fill"):
        fill(open(place + "/fill", "rb").read())
        os.unlink(place + "/fill")
    if os.path.exists(place + "/say"):
        open(place + "/draft", "wb").write(bytes(sorted(set(memory[::4096]))))
        os.rename(place + "/draft", place + "/said")
        os.unlink(place + "/say")
    time.sleep(0.005)
"""


class FilledCase(CommandCase):
    size = 2 << 20  # of its memory, in whole MiB

    def begin(self) -> int:
        return self.start(PROGRAM.format(place=self.place, size=self.size))

    def fill(self, digit: int) -> None:
        (self.place / "draft").write_text(str(digit))
        (self.place / "draft").rename(self.place / "fill")
        wait_until(lambda: not (self.place / "fill").exists(), "it fills its memory")

    def digits(self) -> str:
        (self.place / "said").unlink(missing_ok=True)
        (self.place / "say").touch()
        wait_until(lambda: (self.place / "said").exists(), "it says what it has")
        return (self.place / "said").read_text()
