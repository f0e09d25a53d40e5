"""What workers do in the tests of the engines: ``setup(device, threads)``, as ``stages.engines.contract`` has it."""

import os
import signal
import time

from stages.common.errors import InputError


def double(device, threads):
    """A chunk is a list of numbers, the result their doubles and who computed them."""

    def start(chunk):
        time.sleep(0.05)
        return lambda: ([2 * x for x in chunk], device, threads, os.getpid(), os.getcwd())

    return start


def fragile(device, threads):
    """Dies with a chunk that names a file, if the file is there; "once" removes it before."""

    def start(chunk):
        kind, path = chunk
        if path and os.path.exists(path):
            if kind == "once":
                os.remove(path)
            os.kill(os.getpid(), signal.SIGKILL)
        return lambda: device

    return start


def refusing(device, threads):
    def start(chunk):
        if chunk == 3:
            raise InputError("chunk 3 is bad")
        if chunk == 5:
            raise KeyError("a bug")
        return lambda: chunk

    return start


def broken(device, threads):
    raise InputError(f"there is no {device}")


def leisurely(device, threads):
    """The result is a variable of the worker's environment."""

    def start(chunk):
        time.sleep(0.2)
        return lambda: os.environ.get("HEADSTART_TEST")

    return start


def unhurried(device, threads, **given):
    """What featurize's workers do, slowly enough that all of them have chunks in flight when one of them dies."""
    from stages.features import extract

    start = extract.set_up(device, threads, **given)

    def slowly(chunk):
        time.sleep(0.5)
        return start(chunk)

    return slowly
