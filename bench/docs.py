"""Makes what README.md shows, from one run: ``make docs``.

Runs the README's commands in their order, in a clone of the last commit and with homes of its own, and writes the
numbers that they print into it. The first run's report becomes docs/report.png, its dvc.lock and metrics those of the
repository.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from bench.project import ROOT, Project
from bench.stamps import stamp
from bench.transcripts import Reader, renewed, steps
from stages.common.disk.files import write_text

README, PICTURE = ROOT / "README.md", ROOT / "docs/report.png"
# The command after which the repository holds what the first run left.
COMMITTED = 'git commit -qam "First run"'
METRICS = [Path(f"metrics/{name}.json") for name in ("train", "audit", "test", "timing")]
WIDTH, HEIGHT = 1200, 2270


def picture_sources() -> list[Path]:
    """What docs/report.png depends on."""
    return [*sorted((ROOT / "stages/report").glob("*.*")), *(ROOT / path for path in METRICS[:3])]


def main() -> None:
    if not shutil.which("chromium"):
        sys.exit("error: there is no Chromium here to take the picture: apt-get install chromium")
    changed = subprocess.run(["git", "status", "--short", "stages", "params.yaml", "dvc.yaml"], capture_output=True)
    if changed.stdout:
        sys.exit("error: commit first what is changed in stages, params.yaml and dvc.yaml: the report names the commit")
    text = README.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        reader, made, end = Reader(Path(folder), of_commit=True), "", 0
        complaints = []
        for step in steps(text):
            print(f"$ {step.command}", flush=True)
            printed = reader.run(step.command)
            lines = step.printed
            try:
                lines = renewed(step.printed, printed) if step.printed else []
            except ValueError as error:
                complaints.append(str(error))
            made += text[end : step.start] + "".join(f"{line}\n" for line in lines)
            end = step.end
            if step.command == COMMITTED and reader.project:
                _keep(reader.project)
    write_text(README, made + text[end:])
    if complaints:
        sys.exit("\n\n".join(complaints))


def _keep(project: Project) -> None:
    for path in [Path("dvc.lock"), *METRICS]:
        shutil.copy2(project.folder / path, ROOT / path)
    report = (project.folder / "metrics/report.html").as_uri()
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}"]
    subprocess.run(["chromium", *options, f"--screenshot={PICTURE}", report], check=True, capture_output=True)
    with Image.open(PICTURE) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(PICTURE)
    stamp(PICTURE, picture_sources())


if __name__ == "__main__":
    main()
