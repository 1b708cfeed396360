"""Check the house rules that ruff, mypy and lint-imports cannot express.

Length of files and functions, a docstring for every room, a mirror test for every pure file, no
`global`, catch-alls only in the outermost shells, no path of somebody's machine, fresh gRPC stubs.
The numbers and lists are in pyproject.toml under [tool.house]; the outermost shells are the files
that ruff's per-file-ignores exempt from BLE001. Uses the standard library alone.
"""

import ast
import re
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import stubs

MACHINE_PATH = re.compile(r"(?:(?<![\w./~$}-])|(?<=file://))/(home|root|Users|work|opt|tmp)/[\w.]")
CATCH_ALLS = frozenset({"Exception", "BaseException"})
TEXT_SUFFIXES = frozenset(
    {".cfg", ".json", ".md", ".proto", ".py", ".pyi", ".sh", ".toml", ".txt", ".yaml", ".yml", ""}
)
SKIPPED_FOLDERS = frozenset({"__pycache__", "build", "dist", "node_modules"})
TEXT_BYTES_MAX = 1_000_000
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One Python file."""

    path: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed file."""
        return ast.parse(self.text, filename=str(self.path))

    @property
    def lines(self) -> int:
        """How long the file is."""
        return len(self.text.splitlines())

    def functions(self) -> Iterator[FunctionNode]:
        """Walk all functions, methods and inner functions included."""
        return (node for node in ast.walk(self.tree) if isinstance(node, FunctionNode))


@dataclass(frozen=True)
class House:
    """What the rules look at: the repository's root, its settings and its sources."""

    root: Path
    rules: dict[str, Any]
    shells: tuple[str, ...]
    sources: tuple[Source, ...]

    def files(self, pattern: str) -> list[Path]:
        """List the files under the root that match, generated ones left out."""
        found = (path.relative_to(self.root) for path in self.root.glob(pattern))
        return sorted(path for path in found if not is_skipped(path))


def is_skipped(path: Path) -> bool:
    """Tell generated stubs, hidden folders and built things from what is written by hand."""
    hidden = any(part.startswith(".") and part != ".ci" for part in path.parts[:-1])
    return hidden or "_pb2" in path.name or not SKIPPED_FOLDERS.isdisjoint(path.parts)


# --- the rules: each takes the house and yields findings ------------------------------------------


def file_length(house: House) -> Iterator[str]:
    """Files stay short enough to be read in one go."""
    most = house.rules["file_lines_max"]
    for source in house.sources:
        if source.lines > most:
            yield f"{source.path}: {source.lines} lines, at most {most}"


def function_length(house: House) -> Iterator[str]:
    """No function is long."""
    most = house.rules["function_lines_max"]
    for source in house.sources:
        for function in source.functions():
            if length(function) > most:
                where = f"{source.path}:{function.lineno}"
                yield f"{where}: {function.name} has {length(function)} lines, at most {most}"


def function_median(house: House) -> Iterator[str]:
    """Functions are short as a habit."""
    most = house.rules["function_lines_median_max"]
    lengths = [
        length(f) for source in house.sources if in_rooms(source, house) for f in source.functions()
    ]
    if lengths and statistics.median(lengths) > most:
        yield f"functions of the rooms: median {statistics.median(lengths):g} lines, at most {most}"


def room_docstrings(house: House) -> Iterator[str]:
    """The first thing in a room says what the room is for."""
    for room in house.rules["rooms"]:
        init = house.root / room / "__init__.py"
        if not init.exists():
            yield f"{room}/__init__.py: missing"
        elif not ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))):
            yield f"{room}/__init__.py: no docstring that says what the room is for"


def mirror_tests(house: House) -> Iterator[str]:
    """Every pure file has a test file of its own."""
    for pattern in house.rules["mirrored"]:
        for path in house.files(pattern):
            if path.name.startswith("__"):
                continue
            tests = house.root / "tests" / "unit" / path.parts[0]
            if not any(tests.rglob(f"test_{path.stem}.py")):
                yield f"{path}: no {tests.relative_to(house.root)}/**/test_{path.stem}.py"


def no_globals(house: House) -> Iterator[str]:
    """State has an owner."""
    for source in house.sources:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Global):
                yield f"{source.path}:{node.lineno}: global {', '.join(node.names)}"


def no_catch_alls(house: House) -> Iterator[str]:
    """Only an outermost shell may catch everything; others name what they expect."""
    for source in house.sources:
        if source.path.parts[0] == "tests" or any(map(source.path.match, house.shells)):
            continue
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ExceptHandler) and catches_all(node) and not re_raises(node):
                yield f"{source.path}:{node.lineno}: catches everything and does not re-raise"


def no_machine_paths(house: House) -> Iterator[str]:
    """Nothing in the repository names a folder of one machine."""
    for path in house.files("**/*"):
        if not is_text(house.root / path) or path.name == Path(__file__).name:
            continue
        lines = (house.root / path).read_text(encoding="utf-8", errors="replace").splitlines()
        for number, line in enumerate(lines, start=1):
            if MACHINE_PATH.search(line):
                yield f"{path}:{number}: names a folder of one machine: {line.strip()[:80]}"


def fresh_stubs(house: House) -> Iterator[str]:
    """The stubs are what the generators write from the .proto file today."""
    protos = [source.root / source.proto for source in stubs.SOURCES]
    if missing := [proto for proto in protos if not (house.root / proto).exists()]:
        yield from (f"{proto}: missing" for proto in missing)
    elif stubs.can_generate():
        for path in stubs.stale_stubs():
            yield f"{path}: differs from what `make proto` writes"


RULES: tuple[Callable[[House], Iterable[str]], ...] = (
    file_length,
    function_length,
    function_median,
    room_docstrings,
    mirror_tests,
    no_globals,
    no_catch_alls,
    no_machine_paths,
    fresh_stubs,
)


# --- helpers of the rules -------------------------------------------------------------------------


def length(function: FunctionNode) -> int:
    """Count the lines from the `def` to the last one."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def in_rooms(source: Source, house: House) -> bool:
    """Tell the rooms from tests and scripts."""
    return source.path.parts[0] in house.rules["rooms"]


def catches_all(handler: ast.ExceptHandler) -> bool:
    """Tell a bare `except` or one that names a root of the exceptions."""
    if handler.type is None:
        return True
    return any(isinstance(n, ast.Name) and n.id in CATCH_ALLS for n in ast.walk(handler.type))


def re_raises(handler: ast.ExceptHandler) -> bool:
    """Tell a handler that ends by raising, so that nothing is swallowed."""
    return isinstance(handler.body[-1], ast.Raise)


def is_text(path: Path) -> bool:
    """Tell a file that people read from weights and the like."""
    readable = path.is_file() and path.suffix in TEXT_SUFFIXES
    return readable and path.stat().st_size <= TEXT_BYTES_MAX


# --- the shell ------------------------------------------------------------------------------------


def open_house(root: Path) -> House:
    """Read the settings and all Python files."""
    tool = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    exempt = tool["ruff"]["lint"]["per-file-ignores"]
    shells = tuple(pattern for pattern, codes in exempt.items() if "BLE001" in codes)
    bare = House(root, tool["house"], shells, ())
    paths = bare.files("**/*.py")
    sources = tuple(Source(path, (root / path).read_text(encoding="utf-8")) for path in paths)
    return House(root, tool["house"], shells, sources)


def findings(house: House) -> dict[str, list[str]]:
    """Run every rule."""
    return {rule.__name__.replace("_", " "): list(rule(house)) for rule in RULES}


def main() -> int:
    """Print what is out of order; 1 when anything is."""
    try:
        found = findings(open_house(stubs.ROOT))
    except subprocess.CalledProcessError as error:
        print(f"the stubs could not be generated:\n{error.stderr}", file=sys.stderr)
        return 1
    for rule, lines in found.items():
        for line in lines:
            print(f"[{rule}] {line}")
    total = sum(map(len, found.values()))
    print(f"house: {total} findings" if total else f"house: {len(found)} rules kept")
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
