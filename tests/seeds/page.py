"""The command lines of docs/commands.md, as a reader would type them: what the tests run."""

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "commands.md"
PROMPT = re.compile(r"^(source|destination|)# (.*)$")


@dataclass(frozen=True)
class Line:
    host: str  # "source", "destination", or "" where there is one host only
    text: str

    @property
    def verb(self) -> str:
        """dump, restore, ... of a godwit command; else the program."""
        words = self.text.split()
        return words[1] if words[0] == "godwit" else words[0]


def section(title: str) -> list[list[Line]]:
    """The blocks of commands below the heading that ends with this title."""
    found = re.search(rf"^## \d+\. {re.escape(title)}$(.*?)(?=^#|\Z)", _without_prompts(PAGE.read_text()), re.M | re.S)
    if not found:
        raise LookupError(f"{PAGE} has no section '{title}'")
    blocks = re.findall(r"^```console\n(.*?)^```$", found[1], re.M | re.S)
    return [[_line(text) for text in block.splitlines()] for block in blocks]


def _without_prompts(text: str) -> str:
    """A prompt at the beginning of a line must not look like a heading."""
    return re.sub(r"^(source|destination|)# (?=godwit|tar)", r"\1$ ", text, flags=re.M)


def _line(text: str) -> Line:
    found = PROMPT.match(re.sub(r"^(source|destination|)\$ ", r"\1# ", text))
    if not found:
        raise ValueError(f"{PAGE}: '{text}' has no prompt")
    return Line(found[1], found[2])
