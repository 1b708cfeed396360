"""What the documents say to type exists: commands parse, settings are known, links lead somewhere.

Commands of Baton have to be run by some test, too; of others only those are known that each
document says need something of their own.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from baton.settings import load
from deploy import parser
from deploy.kubernetes.profiles import choose

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "client" / "README.md", *(ROOT / "docs").rglob("*.md")])
HARDWARE = {
    "gpu-machine.md": "needs NVIDIA GPUs",
    "kubernetes.md": "needs a Kubernetes cluster",
    "several-machines.md": "needs hardware",
}
"""Pages whose commands no test can run, and where they say so."""
_IN_KUBERNETES = "kubernetes.md"
"""Its settings are values of manifests."""
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(python -m [^`]+)`")
_OURS = re.compile(r"^(?:\$ )?(?:\w+=\S+ )*(?:\.venv/bin/)?(baton|make|python -m) ([^─]+)$")
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
_PLACES = {"PID": "17", "ID": "cmpl-1", "REQUEST_ID": "cmpl-1", "DIR": "dir", "FILE": "file"}


class Command(NamedTuple):
    page: Path
    program: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page.name}: {self.program} {' '.join(self.words)}"


def blocks(page: Path, language: str) -> list[str]:
    found = _FENCE.findall(page.read_text())
    return [text for kind, text in found if kind == language]


def _commands() -> Iterator[Command]:
    for page in PAGES:
        shown = [*blocks(page, ""), *_INLINE.findall(page.read_text())]
        text = re.sub(r" *\\\n *", " ", "\n".join(shown))
        for line in text.splitlines():
            if found := _OURS.match(line):
                # Two blanks begin what a table of commands says about one.
                typed = re.split(r" {2,}|\s#", found[2])[0]
                words = (_PLACES.get(word, word) for word in shlex.split(typed))
                yield Command(page, found[1], tuple(words))


COMMANDS = list(_commands())
BATON = [command for command in COMMANDS if command.program == "baton"]


def test_the_documents_are_read() -> None:
    assert len(BATON) > 20
    assert {page.name for page in PAGES} >= {*HARDWARE, "troubleshooting.md"}


@pytest.mark.parametrize("command", BATON, ids=str)
def test_commands_parse_and_name_settings_that_exist(command: Command) -> None:
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            chosen = parser.build().parse_args(command.words)
    except SystemExit:
        pytest.fail(errors.getvalue())
    if chosen.command == "deploy render":
        choose(chosen.profile, None, chosen.set)
    else:
        load(None, {}, dict(one.split("=", 1) for one in getattr(chosen, "set", [])))


@pytest.mark.parametrize("name", sorted({c.words[0] for c in BATON}))
def test_each_command_is_run_by_a_test(name: str) -> None:
    sources = [*(ROOT / "tests").rglob("*.py"), ROOT / "benchmarks" / "served.py"]
    others = [path.read_text() for path in sources if path != Path(__file__)]
    assert any(f'"{name}"' in text for text in others)


@pytest.mark.parametrize("page", sorted(HARDWARE))
def test_what_needs_hardware_says_so(page: str) -> None:
    assert HARDWARE[page] in (ROOT / "docs" / page).read_text()


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.program == "make"], ids=str)
def test_targets_exist(command: Command) -> None:
    assert f"\n{command.words[0]}:" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.program == "python -m"], ids=str)
def test_modules_exist(command: Command) -> None:
    assert (ROOT / f"{command.words[0].replace('.', '/')}.py").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_shown_are_settings(page: Path, tmp_path: Path) -> None:
    for number, text in enumerate(blocks(page, "yaml")):
        if "\nresources:" in text:
            continue  # An overlay of kustomize.
        if _IN_KUBERNETES in page.name:
            choose("multi-node", _written(tmp_path, number, text), [])
            continue
        load(_written(tmp_path, number, text), {})


def _written(folder: Path, number: int, text: str) -> Path:
    file = folder / f"{number}.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(
        r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text()
    ):
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", there.read_text(), re.MULTILINE)
            assert anchor in {_anchor(title) for title in titles}, f"{target}#{anchor}"


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
