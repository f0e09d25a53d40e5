"""A small YAML file of a user's: read whole, or refused in one sentence."""

import stat
from pathlib import Path
from typing import Any

import yaml

from stages.common.errors import InputError

# Bytes that such a file has at most. Reading a hundred thousand takes a second.
LARGEST = 100_000


def read(path: Path) -> Any:
    """The values in the YAML file at ``path``, of YAML's own kinds alone.

    Raises InputError where it is not a file, too large, not valid, or gives a key twice.
    """
    try:
        # A pipe would be waited for.
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path} is not a file: put a file there (`git checkout {path}` brings the last one)")
        with open(path, "rb") as file:
            text = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise InputError(f"there is no {path} here: run this from the root of the repository") from None
    if len(text) > LARGEST:
        raise InputError(f"{path} has more than {LARGEST:,} bytes: take out what is no setting")
    try:
        return yaml.load(text, _Loader)  # noqa: S506  # it is a SafeLoader
    except RecursionError:
        raise InputError(f"{path} is not valid YAML: its brackets or lines are nested too deep") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).splitlines()[0]
        raise InputError(f"{path} is not valid YAML{place}: {str(what)[:200]}") from None


class _Loader(yaml.SafeLoader):
    """PyYAML's own, but what its constructors stumble over is told with its line, and no key is lost in silence."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError, OverflowError):
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(None, None, f"this is no {kind}", node.start_mark) from None

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        # Called before the pairs become one dictionary.
        seen = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                # Some that merge one another have no end.
                what = "keys are not merged here (<<): write them out"
            elif isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen:
                what = f"the key {key.value[:80]!r} is there twice: take one out"
            else:
                seen.add((key.tag, key.value if isinstance(key, yaml.ScalarNode) else id(key)))
                continue
            raise yaml.constructor.ConstructorError(None, None, what, key.start_mark)
