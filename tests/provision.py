"""Install the Debian packages that the tests need and this machine lacks.

Run as root it installs them; otherwise it says which command to run, and fails.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

NEEDED = {
    "gcc": "/usr/bin/cc",  # builds the load generator of tests/bench
    "libc6-dev": "/usr/include/stdio.h",
    "curl": "/usr/bin/curl",  # runs examples of the documentation
    "chromium-headless-shell": "/usr/bin/chromium-headless-shell",  # the pages are tested in it
    "firefox-esr": "/usr/bin/firefox-esr",  # what people do most is tested in it too
    "webkit2gtk-driver": "/usr/bin/WebKitWebDriver",  # and in WebKit, which is close to Safari
    "xvfb": "/usr/bin/Xvfb",  # a display for WebKit
    "fonts-dejavu-core": "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
    "fonts-noto-color-emoji": "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",
    "postgresql": "/usr/lib/postgresql",  # the shared store
    "pgbouncer": "/usr/sbin/pgbouncer",  # a pooler in front of it
    "nginx-light": "/usr/sbin/nginx",  # a proxy in front of gateways, and one that is measured
    "systemd": "/usr/bin/systemd-analyze",  # checks the units in deploy/
    "iproute2": "/usr/sbin/ip",  # makes hosts in network namespaces
    "faketime": "/usr/bin/faketime",  # shifts the clock of a host
    "redis-server": "/usr/bin/redis-server",  # counts limits of several nodes
}
"""Debian package -> a file that shows it, or another version of it, is here."""


def main() -> int:
    """Install what is missing; give the exit code."""
    missing = [package for package, sign in NEEDED.items() if not is_here(sign)]
    if not missing:
        print("nothing to install")
        return 0
    commands = [
        ["apt-get", "update", "-q"],
        ["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing],
    ]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        by_hand = " && ".join(shlex.join(["sudo", *command]) for command in commands)
        print(f"The tests need {', '.join(missing)}. On Debian, run:\n\n    {by_hand}\n")
        return 1
    return max(map(run, commands))


def is_here(sign: str) -> bool:
    """Return whether the file, or the program of its name, exists."""
    return Path(sign).exists() or shutil.which(Path(sign).name) is not None


def run(command: list[str]) -> int:
    """Run one step; show what it printed only if it failed."""
    print(shlex.join(command), flush=True)
    settings = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        command,
        env=settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        text=True,
    )
    if done.returncode:
        print(done.stdout)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
