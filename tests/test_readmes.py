"""Do inline links and named ones of the Markdown files lead somewhere, and is README.md short enough to be read?"""

from __future__ import annotations

import posixpath
import re
import subprocess
from collections.abc import Mapping, Set
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: What a newcomer reads in ten minutes.
LINES = 260

_FENCED = re.compile(r"^( *)(```+|~~~+).*?^ *\2", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_HEADING = re.compile(r"^#{1,6} +(.+?)(?: +#+)?$", re.MULTILINE)
#: ``[text](target)``, also of an image, with or without a title.
_INLINE = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)")
#: ``[name]: target`` on a line of its own.
_NAMED = re.compile(r"^ {0,3}\[[^\]]+\]: *(\S+)", re.MULTILINE)
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)


def anchors(text: str) -> set[str]:
    """Give the anchors that GitHub makes of a page's headings: a repeated one has a number."""
    found: set[str] = set()
    seen: dict[str, int] = {}
    for heading in _HEADING.findall(_FENCED.sub("", text)):
        shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")
        number = seen.get(slug, 0)
        seen[slug] = number + 1
        found.add(f"{slug}-{number}" if number else slug)
    return found


def links(text: str) -> list[str]:
    """Give the targets of a page's links into this repository."""
    prose = _CODE.sub("", _FENCED.sub("", text))
    targets = [*_INLINE.findall(prose), *_NAMED.findall(prose)]
    return [target for target in targets if not _ELSEWHERE.match(target)]


def broken(page: str, texts: Mapping[str, str], tracked: Set[str]) -> list[str]:
    """Tell the links of a page that lead nowhere.

    Args:
        page: its path from the root.
        texts: every Markdown file, by path from the root.
        tracked: the paths of all files and folders.
    """
    told = []
    for target in links(texts[page]):
        path, _, anchor = target.partition("#")
        to = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
        if path.startswith("/"):
            told.append(f"{page}: {target}: starts at the root of the host")
        elif to not in tracked:
            told.append(f"{page}: {target}: no such file")
        elif anchor and to in texts and anchor not in anchors(texts[to]):
            told.append(f"{page}: {target}: no such heading")
    return told


@pytest.fixture(scope="module")
def tracked() -> set[str]:
    """Give the files that git knows, and their folders."""
    if not (ROOT / ".git").exists():
        pytest.skip("no clone of the repository: what is tracked is not known")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = {Path(name) for name in listed.split("\0") if name}
    return {path.as_posix() for file in files for path in (file, *file.parents)}


@pytest.fixture(scope="module")
def texts(tracked: set[str]) -> dict[str, str]:
    """Give the Markdown files, by path from the root."""
    return {name: (ROOT / name).read_text(encoding="utf-8") for name in sorted(tracked) if name.endswith(".md")}


def test_every_link_leads_somewhere(texts: dict[str, str], tracked: set[str]) -> None:
    assert len(texts) > 20
    assert sum(len(links(text)) for text in texts.values()) > 80
    assert [line for page in texts for line in broken(page, texts, tracked)] == []


def test_the_readme_is_short(texts: dict[str, str]) -> None:
    assert len(texts["README.md"].splitlines()) <= LINES


def test_the_readme_leads_to_every_page_of_the_plugin(texts: dict[str, str]) -> None:
    pages = {name for name in texts if name.startswith("src/")} | {"perf_tests/README.md", "tests/twins/README.md"}
    assert len(pages) > 10
    assert pages - {target.partition("#")[0] for target in links(texts["README.md"])} == set()


PAGES = {"README.md": "# Top", "a/page.md": "# Two `words`: more\n\n## Again\n\n## Again\n\n```sh\n# not one\n```\n"}
TRACKED = {".", "README.md", "a", "a/page.md", "a/code.py"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[x](b.md)", "no such file"),
        ("![x](a/picture.png)", "no such file"),
        ("[x](../README.md)", "no such file"),
        ('[x](b.md "with a title")', "no such file"),
        ("[x](<b.md>)", "no such file"),
        ("[`x`](b.md)", "no such file"),
        ("[x][name]\n\n[name]: b.md", "no such file"),
        ("- a list whose [link\n  breaks](b.md)", "no such file"),
        ("[x](/a/page.md)", "starts at the root of the host"),
        ("[x](#bottom)", "no such heading"),
        ("[x](a/page.md#two-words)", "no such heading"),
        ("[x](a/page.md#not-one)", "no such heading"),
        ("[x](a/page.md#again-2)", "no such heading"),
        ("[x](a/page.md#Again)", "no such heading"),
    ],
)
def test_a_link_that_leads_nowhere_is_told(text: str, problem: str) -> None:
    told = broken("README.md", {**PAGES, "README.md": text}, TRACKED)
    assert [line.rpartition(": ")[2] for line in told] == [problem]


@pytest.mark.parametrize(
    "text",
    [
        "[x](a/page.md) [y](a) [z](a/code.py)",
        "[x](a/page.md#two-words-more) [y](a/page.md#again) [z](a/page.md#again-1)",
        "# Top\n\n[x](#top)",
        "[x](https://example.org/b.md) [y](mailto:a@example.org)",
        "`[x](b.md)`",
        "```md\n[x](b.md)\n```\n",
    ],
)
def test_a_link_that_leads_somewhere_is_not(text: str) -> None:
    assert broken("README.md", {**PAGES, "README.md": text}, TRACKED) == []


def test_links_of_a_page_in_a_folder_start_there() -> None:
    texts = {**PAGES, "a/page.md": "[x](code.py) [y](../README.md#top) [z](a/code.py)"}
    assert broken("a/page.md", texts, TRACKED) == ["a/page.md: a/code.py: no such file"]
