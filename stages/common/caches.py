"""Where a user's caches are, shared by all workspaces."""

import os
from pathlib import Path
from typing import Optional

import platformdirs

# Overrides ``runtime.cache``.
CACHE_VARIABLE = "HEADSTART_CACHE"


def user_cache() -> Path:
    """The user's cache folder, where what is bundled or downloaded lies once for all workspaces."""
    return platformdirs.user_cache_path("headstart")


def cache_folder(setting: str) -> Optional[Path]:
    """The folder of the feature cache and of the index of files, or None for no cache.

    setting: ``runtime.cache`` of the params; ``$HEADSTART_CACHE`` (a folder, or off) goes before it.
    """
    setting = os.environ.get(CACHE_VARIABLE) or setting
    if setting == "off":
        return None
    return user_cache() / "features" if setting == "auto" else Path(setting).absolute()
