"""What the audit finds of faults that were planted, and what it finds where there are none: ``python -m bench.audit``.

On the digits, on scikit-image's pictures cut up, and on pictures made up. The whole pipeline up to the audit, in this
process.
"""

import contextlib
import io
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.planted import Item, copied, digits, flipped, mixed, photos, pieces, save
from bench.project import set_params
from stages import audit, featurize, images, split, weights
from stages.findings import finding
from stages.findings.finding import Finding

FLIPPED, COPIES, FOREIGN, FIRST = 0.05, 20, 10, 20


def audited(items: Sequence[Item]) -> list[Finding]:
    """What the audit finds in ``items``."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        table = save(Path(folder) / "images", items)
        os.chdir(folder)
        try:
            set_params(Path("params.yaml"), dataset={"name": "list", "path": str(table)})
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                for stage in (images, weights, split, featurize, audit):
                    stage.main()
            return finding.read()
        finally:
            os.chdir(before)


def paths(findings: Sequence[Finding], kind: str) -> list[str]:
    """Of the findings of a kind, in their order."""
    return [found.path for found in findings if found.kind == kind]


def lines(sets: dict[str, list[Item]]) -> Iterator[str]:
    """What was planted into each of ``sets`` and what was found, a line of a table for each."""
    yield "| data | planted | found |"
    yield "|---|---|---|"
    for name, items in sets.items():
        counts = Counter(found.kind for found in audited(items))
        said = ", ".join(f"{counts[kind]} `{kind}`" for kind in finding.KINDS if counts[kind])
        yield f"| {name}: {len(items):,} images | nothing | {said or 'nothing'} |"
        if not name.startswith("made-up"):
            changed, right = flipped(items, FLIPPED)
            found = audited(changed)
            first = paths(found, "label")[: len(right)]
            planted = [each for each in found if each.kind == "label" and each.path in right]
            named = sum(each.suggested == right[each.path] for each in planted)
            yield (
                f"| {name} | {len(right)} labels changed | of the first {len(first)} `label` "
                f"{sum(path in right for path in first) / len(first):.0%} are these; of these "
                f"{len(planted) / len(right):.0%} are found, {named / len(planted):.0%} with their right class |"
            )
        if name != "digits":
            changed, originals = copied(items, COPIES)
            leaks = [each for each in audited(changed) if each.kind == "leak"]
            right = {each.path: each.other for each in leaks if originals.get(each.path) == each.other}
            false = [each for each in leaks if each.path not in originals]
            missed = sorted(set(originals) - set(right))
            yield (
                f"| {name} | {len(originals)} near-copies in test of images in train | {len(right)} of them as `leak`"
                f"{' (not ' + ', '.join(missed) + ')' if missed else ''}, and {len(false)} other `leak` |"
            )
        foreign = [item for other, its in sets.items() if other != name for item in its[:: max(1, len(its) // 50)]]
        changed, strangers = mixed(items, foreign, FOREIGN)
        outliers = paths(audited(changed), "outlier")
        hits = sum(path in strangers for path in outliers[:FIRST])
        yield (
            f"| {name} | {len(strangers)} foreign images | {hits} among the first {FIRST} `outlier`, "
            f"of {len(outliers)} |"
        )


def main() -> None:
    with tempfile.TemporaryDirectory() as cache:
        os.environ["HEADSTART_CACHE"] = cache
        sets = {"digits": digits(), "scikit-image's pictures cut up": pieces(), "made-up photos": photos()}
        for line in lines(sets):
            print(line, flush=True)


if __name__ == "__main__":
    main()
