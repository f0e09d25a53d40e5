"""Where a user's caches are, shared by all workspaces."""

import os
from pathlib import Path
from typing import Optional

import platformdirs

from stages.common.errors import InputError

# Overrides ``runtime.cache``.
CACHE_VARIABLE = "HEADSTART_CACHE"


def user_cache() -> Path:
    """The user's cache folder, where what is bundled or downloaded lies once for all workspaces."""
    return platformdirs.user_cache_path("headstart")


def cache_folder(setting: str) -> Optional[Path]:
    """The folder of the feature cache and of the index of files, or None for no cache.

    setting: ``runtime.cache`` of the params; ``$HEADSTART_CACHE`` (a folder, or off) goes before it. "~" is
    the user's home folder.
    """
    setting = os.environ.get(CACHE_VARIABLE) or setting
    if setting == "off":
        return None
    if setting == "auto":
        return user_cache() / "features"
    folder = os.path.expanduser(setting)
    if folder.startswith("~"):
        raise InputError(f"runtime.cache: there is no home folder {setting.partition('/')[0]}: write the folder out")
    return Path(folder).absolute()
