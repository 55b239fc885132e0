"""The blocks of code in Markdown pages, found by the parser that comes with rich, and their commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOT_RUN = re.compile(r"<!-- not run: (.+) -->\s*")
"""The comment on the line before a block that no test runs, with the reason."""


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        page: Its page, relative to the root of the repository.
        line: Line of the page that its text begins on, from 1.
        language: First word behind the fence ("python").
        title: The name of the file that it shows, if any.
        text: Its text.
        not_run: Why no test runs it; empty for one that is run.
    """

    page: str
    line: int
    language: str
    title: str
    text: str
    not_run: str = ""

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order, those in lists and quotes as well."""
    found, before = [], None
    for token in MarkdownIt("commonmark").parse(page.read_text("utf-8")):
        if token.type == "fence":
            found.append(_block(page, token, before))
        if token.type in ("fence", "html_block", "inline"):
            before = token
    return found


def _block(page: Path, token: Token, before: Token | None) -> Block:
    language, _, rest = token.info.strip().partition(" ")
    title = re.search(r'title="([^"]+)"', rest)
    comment = before is not None and before.type == "html_block" and NOT_RUN.fullmatch(before.content)
    assert token.map is not None
    return Block(
        page=page.relative_to(ROOT).as_posix(),
        line=token.map[0] + 2,
        language=language,
        title=title[1] if title else "",
        text=token.content,
        not_run=comment[1] if comment else "",
    )


def inline_code(page: Path) -> Iterator[str]:
    """What stands as code within the sentences and tables of a page."""
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text("utf-8")):
        for part in token.children or ():
            if part.type == "code_inline":
                yield part.content


def commands(block: Block) -> Iterator[str]:
    """The commands of a block for a shell, as they stand there.

    Of a console only what stands behind a "$ " is a command. What `$(...)` holds, and what a scheduler is to
    `--wrap`, are commands, too.
    """
    for line in block.text.replace("\\\n", " ").splitlines():
        if block.language == "console":
            if not line.startswith("$ "):
                continue
            line = line[2:]
        words = shlex.split(line, comments=True)
        if words:
            yield line
        yield from re.findall(r"\$\(([^)]*)\)", line)
        if "--wrap" in words:
            yield words[words.index("--wrap") + 1]
