"""Where a report comes from: the commit, the day, and the versions at work."""

import datetime
import subprocess
from importlib.metadata import version
from typing import Optional

from stages.backend.installed import mxnet_version

# Of headstart, as in CHANGELOG.md.
VERSION = "0.1"

# What a run is made of besides its data: the rest of the repository makes no difference.
SOURCES = ("params.yaml", "dvc.yaml", "stages")


def origin() -> dict[str, str]:
    """{name: what to say} of the run that goes on here; without a commit where there is no git repository."""
    head = _git("rev-parse", "--short=10", "HEAD")
    changed = _git("diff", "--name-only", "--relative", "HEAD", "--", *SOURCES)
    found = {}
    if head:
        places = dict.fromkeys(path.split("/")[0] for path in (changed or "").splitlines())
        found["commit"] = f"{head} and changes in {', '.join(places)}" if places else head
    return {
        **found,
        "date": datetime.date.today().isoformat(),
        "headstart": VERSION,
        "MXNet": mxnet_version(),
        "DVC": version("dvc"),
    }


def _git(*arguments: str) -> Optional[str]:
    """What the command prints; None where there is no git, or it has nothing to say."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip() or None
