"""Which photos the stages of a project open, wherever they run."""

import time

# A file older than so many seconds is sure to get another time when it changes again.
SETTLED = 3.5

# Python imports it wherever it starts, here in every process that DVC starts.
SITECUSTOMIZE = """
import os, sys

def note(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if path.startswith(os.environ["WATCHED"] + "/"):
            stage = os.path.basename(sys.argv[0])
            file = os.open(os.environ["WATCHED_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(file, f"{stage}\\t{os.path.relpath(path, os.environ['WATCHED'])}\\n".encode())
            os.close(file)

sys.addaudithook(note)
"""


def watch(project):
    """From now on every photo is noted that a stage of ``project`` opens."""
    place = project.folder.parent
    (place / "hook").mkdir()
    (place / "hook/sitecustomize.py").write_text(SITECUSTOMIZE)
    project.environment.update(
        PYTHONPATH=str(place / "hook"), WATCHED=str(project.photos.resolve()), WATCHED_LOG=str(place / "log")
    )


def settle():
    """Waits until the photos are old enough for the index to keep what it knows of them."""
    time.sleep(SETTLED)


def opened(project):
    """The photos that were opened since this was asked last: by evaluate, and by any other stage."""
    log = project.folder.parent / "log"
    lines = [line.split("\t") for line in log.read_text().splitlines()] if log.exists() else []
    log.unlink(missing_ok=True)
    shown = {path for stage, path in lines if stage == "evaluate.py"}
    return shown, {path for stage, path in lines if stage != "evaluate.py"}


def listed(project, *subsets):
    """The paths of the images in these subsets."""
    lists = [(project.folder / f"data/split/{subset}.lst").read_text() for subset in subsets]
    return {line.split("\t")[2] for text in lists for line in text.splitlines()}
