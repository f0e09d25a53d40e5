"""Checks an environment made from requirements-gpu.txt on a machine without a GPU: `make check-gpu`.

Every library that libmxnet.so names must be there but the driver's; without a driver the import must say so in one
sentence; and with a stand-in for the driver that answers every call with an error, MXNet must import, see no GPU and
compute on the CPU. Needs gcc and binutils.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

SITE = next(Path(path) for path in sys.path if (Path(path) / "mxnet" / "libmxnet.so").exists())
LIBRARY = SITE / "mxnet" / "libmxnet.so"
DRIVER = "libcuda.so.1"


def run(*command, **environment):
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def needed():
    _, printed, _ = run("objdump", "-p", str(LIBRARY))
    return re.findall(r"NEEDED\s+(\S+)", printed)


def stand_in(folder):
    """Builds a driver in which every function that MXNet and the CUDA libraries may look for returns an error."""
    libraries = [LIBRARY, *SITE.glob("nvidia/*/lib/*.so*")]
    _, printed, _ = run("nm", "-D", "--undefined-only", *map(str, libraries))
    names = sorted(set(re.findall(r" U (cu[A-Z]\w*)(?:@\S+)?$", printed, re.M)))
    # 100 is CUDA_ERROR_NO_DEVICE.
    (folder / "cuda.c").write_text("\n".join(f"int {name}(void) {{ return 100; }}" for name in names))
    library = folder / DRIVER
    subprocess.run(["gcc", "-shared", "-fPIC", f"-Wl,-soname,{DRIVER}", "-o", library, folder / "cuda.c"], check=True)
    return len(names)


def main():
    wheels = {path.name for path in SITE.glob("nvidia/*/lib/*")}
    beside = {path.name for path in LIBRARY.parent.iterdir()}
    _, cached, _ = run("/sbin/ldconfig", "-p")
    missing = [name for name in needed() if name not in wheels | beside and name not in cached]
    print("needed:", ", ".join(needed()))
    print("missing:", ", ".join(missing))
    assert missing == [DRIVER], "only the driver may be missing"

    code, _, error = run(sys.executable, "-m", "stages.backend.mx")
    print("without a driver:", error.strip())
    assert code == 1
    assert error.startswith("error: this is the GPU build of MXNet and there is no NVIDIA driver")
    assert error.count("\n") == 1

    with tempfile.TemporaryDirectory() as folder:
        print("functions in the stand-in for the driver:", stand_in(Path(folder)))
        program = "from stages.backend.mx import mx; print(mx.context.num_gpus(), mx.nd.ones((2, 2)).sum().asscalar())"
        code, printed, error = run(sys.executable, "-c", program, LD_LIBRARY_PATH=folder)
    print("with a stand-in:", printed.strip(), error.strip())
    assert (code, printed.split()) == (0, ["0", "4.0"])


if __name__ == "__main__":
    main()
