"""A project whose photos are watched, for the tests of a user's day."""

import pytest

from tests.project.watching import listed, opened, settle, watch


@pytest.fixture(scope="session")
def watched(small_project):
    """A project that has run once and is committed; ``watching.opened`` tells the photos that are opened from then on.

    Its tests leave it as they found it, or committed on the branch main.
    """
    project = small_project("watched")
    watch(project)
    settle()
    project.repro()
    shown, others = opened(project)
    # The first run opens them all; the report has pictures of the test images.
    assert others == listed(project, "train", "valid", "test") and len(others) == 24
    assert shown == listed(project, "test")
    project.run("git", "add", "-A")
    project.run("git", "commit", "-qm", "run")
    return project
