"""A small Debian for 64-bit Arm, whose programs run here by emulation.

HEADSTART_ARM_ROOT names a folder where it is, or is to be made and kept; otherwise it is made anew in five minutes.
"""

import os
import platform
import shutil
import subprocess
from pathlib import Path

RELEASE = "bookworm"
# What make, git and Python need; not what `make setup` asks for.
PACKAGES = "ca-certificates,git,make,python3,python3-venv"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# As Graviton 2 and Ampere's Altra have it. Emulated without a name, a CPU has instructions that none of these has.
CPU = "neoverse-n1"
# Mounts that are gone when the command ends; whatever it left is ended with it.
INSIDE = """
mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && mount --rbind /sys "$0/sys" || exit 125
exec chroot "$0" /bin/sh -c 'cd "$0" && exec "$@"' "$@"
"""


def lacking() -> str:
    """Why 64-bit Arm cannot be emulated here, in one sentence, or nothing."""
    if platform.machine() == "aarch64":
        return "this machine is Arm itself: every other test runs on it"
    if os.geteuid() != 0:
        return "to make a root for another kind of machine, run the tests as root"
    if missing := [name for name in ("debootstrap", "unshare", "chroot") if not which(name)]:
        return f"emulation needs {' and '.join(missing)}: apt-get install debootstrap qemu-user-static"
    if not Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists():
        return (
            "the system does not run Arm programs: apt-get install qemu-user-static binfmt-support, then "
            "mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc and update-binfmts --enable qemu-aarch64"
        )
    return ""


def which(name: str) -> bool:
    """Whether a program is installed, in the folders of the system's own too."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is not None


class Arm:
    """A machine of 64-bit Arm in ``root``, with the root user, the network and the clock of this one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        if not (root / "usr/bin/git").exists():
            command = ["debootstrap", "--arch=arm64", "--variant=minbase", f"--include={PACKAGES}", RELEASE, str(root)]
            done = subprocess.run(["nice", *command], env=_environment(), capture_output=True, text=True)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr
        for path in (CERTIFICATES, Path("/etc/resolv.conf")):
            if path.exists():
                shutil.copy(path, root / path.relative_to("/"))

    def run(self, folder: Path, *command: str, code: int = 0, **environment: str) -> str:
        """Runs ``command`` in ``folder``, a path of this machine below the root; returns what it printed.

        Fails unless it exits with ``code``.
        """
        place = f"/{folder.relative_to(self.root)}"
        done = subprocess.run(
            ["nice", "unshare", "--mount", "--pid", "--fork", "sh", "-c", INSIDE, str(self.root), place, *command],
            env={**_environment(), "QEMU_CPU": CPU, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == code, f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}"
        return done.stdout


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
