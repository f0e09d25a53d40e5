"""Looks into the feature cache: ``python -m stages.cache``."""

import argparse
import sqlite3
from collections import Counter

from stages.common import params
from stages.common.errors import InputError, run
from stages.features.store import DIGEST_BYTES, FINGERPRINT_BYTES, VARIABLE, open_store, place, unseal


def main(arguments=None):
    """The command ``python -m stages.cache``."""
    parser = argparse.ArgumentParser(prog="python -m stages.cache", description="Look into the feature cache.")
    actions = parser.add_subparsers(dest="action", metavar="show | verify | prune | clear")
    actions.add_parser("show", help="where it is, how large, and how many features of which backbone (the default)")
    actions.add_parser("verify", help="read every entry and drop those that are damaged")
    prune = actions.add_parser("prune", help="drop what was used least recently until it is small enough")
    prune.add_argument("gb", type=float, help="the size to shrink to, in gigabytes")
    actions.add_parser("clear", help="drop everything")
    chosen = parser.parse_args(arguments)

    runtime = params.load().runtime
    folder = place(runtime.cache)
    if folder is None:
        raise InputError(f"the feature cache is off (runtime.cache or ${VARIABLE})")
    try:
        with open_store(folder, runtime.cache_gb) as store:
            {"verify": _verify, "prune": _prune, "clear": _clear}.get(chosen.action, _show)(store, chosen)
    except sqlite3.Error as error:
        raise InputError(
            f"{folder} is not a feature cache that can be read ({error}): remove {folder}/cache.db*"
        ) from None


def _entries(store):
    return (key for key in store.iterkeys() if len(key) == FINGERPRINT_BYTES + DIGEST_BYTES)


def _show(store, _):
    print(f"{store.directory}: {store.volume() / 1e9:.3f} GB of at most {store.size_limit / 1e9:.1f} GB")
    counts = Counter(key[:FINGERPRINT_BYTES] for key in _entries(store))
    for fingerprint, count in counts.most_common():
        print(f"{count:>10,}  {fingerprint.hex()[:12]}  {store.get(b'about' + fingerprint, '?')}")


def _verify(store, _):
    damaged = [key for key in _entries(store) if unseal(key, store.get(key)) is None]
    for key in damaged:
        store.delete(key)
    print(f"{len(store):,} entries read, {len(damaged):,} damaged and dropped")


def _prune(store, chosen):
    before = store.volume()
    store.reset("size_limit", int(chosen.gb * 1e9))
    store.cull()
    print(f"{before / 1e9:.3f} GB → {store.volume() / 1e9:.3f} GB")


def _clear(store, _):
    count = sum(1 for _ in _entries(store))
    store.clear()
    print(f"dropped {count:,} features")


if __name__ == "__main__":
    run(main)
