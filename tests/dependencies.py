"""Which modules of headstart a stage is made of.

``python -m tests.dependencies`` writes it to ``dvc.yaml``, as the code each stage depends on, and to
``docs/architecture.md``, as a table of what runs again when a module changes.

Found in the source, imports inside functions included. What a module reads besides, such as a template, lies beside
it under its name. ``errors``, ``streams`` and ``progress`` only talk to the user: no output can change with them, so
none depends on them; nor on ``stages/__init__.py``.
"""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
TALK = ("stages/common/errors.py", "stages/common/progress.py", "stages/common/streams.py")
MAP = "stages/__init__.py"

ARCHITECTURE = ROOT / "docs/architecture.md"
TABLE = re.compile(r"(?<=<!-- reruns -->\n).*?(?=<!-- /reruns -->)", re.DOTALL)

# The packages from the ground up: each may import those in the rows before its own, and no other in its row.
FLOORS = (
    ("common",),
    ("backend", "dataset", "engines"),
    ("backbones",),
    ("checkpoints", "preprocessing"),
    ("inference",),
    ("features",),
    ("classifier",),
    ("findings",),
    ("report", "exports"),
)


def modules() -> list[str]:
    """The paths of all modules of headstart, relative to the root, sorted."""
    found = (path.relative_to(ROOT).as_posix() for path in (ROOT / "stages").rglob("*.py"))
    return sorted(path for path in found if not (path.endswith("__init__.py") and _only_words(path)) and path != MAP)


def stages() -> dict[str, dict]:
    """What ``dvc.yaml`` says of each stage."""
    return yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


@functools.cache
def imported(module: str) -> set[str]:
    """The modules of headstart that ``module`` (a path) imports anywhere in its source, as paths."""
    return {path for name in _names(module) for path in _paths(name)}


def _names(module: str) -> Iterator[str]:
    for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _paths(name: str) -> Iterator[str]:
    # The module of that name, and the packages it is in, where these hold code.
    parts = name.split(".")
    if parts[0] != "stages":
        return
    for end in range(2, len(parts) + 1):
        package = "/".join(parts[:end])
        for path in (f"{package}.py", f"{package}/__init__.py"):
            if (ROOT / path).is_file() and not _only_words(path):
                yield path


@functools.cache
def _only_words(path: str) -> bool:
    """Whether a module has no code, at most a docstring."""
    body = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)


@functools.cache
def closure(module: str) -> set[str]:
    """``module`` and all that it imports, directly or not."""
    found: set[str] = set()
    todo = [module]
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo.extend(imported(path))
    return found


def dependencies(stage: str) -> list[str]:
    """The files of headstart's that can change what ``stage`` writes, as ``dvc.yaml`` is to name them, sorted."""
    used = closure(f"stages/{stage}.py") - set(TALK)
    beside = {
        path.relative_to(ROOT).as_posix()
        for module in used
        for path in (ROOT / module).parent.glob(f"{Path(module).stem}.*")
        if path.suffix != ".pyc"
    }
    return sorted(used | beside)


def folded(used: list[str]) -> list[str]:
    """``used`` as ``dvc.yaml`` names it: a package of which all is used by its folder.

    DVC reads and writes every name in ``dvc.lock`` whenever a stage has run: each costs it time.
    """
    # The innermost first: one that is used whole may lie in another that is.
    packages = sorted({str(Path(name).parent) for name in used} - {"stages"}, key=_place, reverse=True)
    unused, names = set(modules()) - set(used), set(used)
    for package in packages:
        if not any(name.startswith(f"{package}/") for name in unused):
            names = {name for name in names if not name.startswith(f"{package}/")} | {package}
    return sorted(names)


def write_dvc_yaml() -> None:
    """Puts the code that each stage depends on into ``dvc.yaml``; all else in it stays."""
    path = ROOT / "dvc.yaml"
    text = path.read_text(encoding="utf-8")
    for stage in stages():
        lines = "".join(f"      - {name}\n" for name in folded(dependencies(stage)))
        block = re.search(rf"^  {stage}:\n(?:    .*\n|\n)*?    deps:\n(?:      (?!- stages/).*\n)*", text, re.MULTILINE)
        if block is None:
            raise ValueError(f"dvc.yaml has no deps for {stage}")
        rest = re.sub(r"\A(?:      - stages/.*\n)*", "", text[block.end() :])
        text = text[: block.end()] + lines + rest
    path.write_text(text, encoding="utf-8")


def table() -> str:
    """What runs again when a module changes, in Markdown."""
    used = {stage: set(dependencies(stage)) for stage in stages()}
    names = sorted({name for its in used.values() for name in its} | set(modules()), key=_place)
    lines = [f"| module | {' | '.join(used)} |", f"|---|{':-:|' * len(used)}"]
    for name in names:
        marks = " | ".join("●" if name in its else " " for its in used.values())
        lines.append(f"| `{name[len('stages/') :]}` | {marks} |")
    return "\n".join(lines) + "\n"


def _place(path: str) -> tuple[int, str]:
    return path.count("/"), path


def write_table() -> None:
    """Puts the table into ``docs/architecture.md``."""
    text = ARCHITECTURE.read_text(encoding="utf-8")
    ARCHITECTURE.write_text(TABLE.sub(lambda _: table(), text), encoding="utf-8")


if __name__ == "__main__":
    write_dvc_yaml()
    write_table()
