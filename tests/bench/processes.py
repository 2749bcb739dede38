"""Start, pin, watch and end the processes of a benchmark; every one is ended by its own id.

CPU time is read from the process's CPU clock (clock_getcpuclockid(3)): nanoseconds, all threads,
those that have ended included, where /proc/PID/stat counts in ticks of 10 ms.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

END_TIMEOUT_S = 10.0
CPU_CLOCK_OF_PROCESS = 2  # CPUCLOCK_SCHED, from the kernel's posix-timers.h
PR_SET_PDEATHSIG = 1
NEEDED_FILES = 4096
LIBC = ctypes.CDLL(None)


class BenchError(Exception):
    """The benchmark cannot run; the message says why, in a line or with the log of a process."""


def pick_cpus() -> tuple[int, int]:
    """Choose a CPU for whoever is measured and another for the upstream and the load."""
    cpus = sorted(os.sched_getaffinity(0))
    return cpus[0], cpus[1] if len(cpus) > 1 else cpus[0]


def raise_file_limit() -> None:
    """Allow as many descriptors as the machine lets us; raises BenchError when that is too few."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < NEEDED_FILES:
        raise BenchError(f"{NEEDED_FILES} open files are needed and the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def child(
    command: Sequence[str | Path],
    cpu: int,
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    log: IO[bytes] | int = subprocess.DEVNULL,
    stdout: int | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command on one CPU, and end it on the way out, gently first.

    It has a session of its own, so that Ctrl-C reaches only us, and dies with us in any case.
    """

    def prepare() -> None:
        os.sched_setaffinity(0, {cpu})
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log if stdout is None else stdout,
        stderr=log,
        cwd=cwd,
        env=env,
        start_new_session=True,
        preexec_fn=prepare,  # noqa: PLW1509 - there are no threads here
    )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and wait for it: SIGTERM, and SIGKILL when it takes too long."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout:
        process.stdout.close()


def family(pid: int) -> tuple[int, ...]:
    """Return the process and all its descendants."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{parent}/task").iterdir():
                found.extend(map(int, (thread / "children").read_text().split()))
    return tuple(found)


def cpu_ns(pids: Sequence[int]) -> int:
    """Sum the CPU time used so far, user and system, in nanoseconds; raises BenchError."""
    try:
        return sum(time.clock_gettime_ns(~pid << 3 | CPU_CLOCK_OF_PROCESS) for pid in pids)
    except OSError as error:
        raise BenchError(f"a measured process is gone (one of {pids})") from error


def memory_kib(pids: Sequence[int], field: str) -> int:
    """Sum a field of /proc/PID/status: VmRSS (now) or VmHWM (the most ever), in KiB."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):  # gone by now
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith(f"{field}:"):
                    total += int(line.split()[1])
    return total


@dataclass(frozen=True)
class Clocks:
    """The machine's time in seconds over all CPUs, and how much of it `ours` used."""

    all_s: float
    busy_s: float
    stolen_s: float
    ours_s: float

    @classmethod
    def read(cls, pids: Sequence[int]) -> Clocks:
        """Read /proc/stat, and the CPU time of these processes, ourselves and children ended."""
        line = Path("/proc/stat").read_text().split("\n")[0]
        ticks = [int(field) / os.sysconf("SC_CLK_TCK") for field in line.split()[1:9]]
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        ours = time.process_time() + ended.ru_utime + ended.ru_stime + cpu_ns(pids) / 1e9
        idle, waiting, stolen = ticks[3], ticks[4], ticks[7]
        return cls(sum(ticks), sum(ticks) - idle - waiting - stolen, stolen, ours)

    def noise_since(self, before: Clocks) -> tuple[float, float]:
        """Return the shares of the machine that the hypervisor and other processes took."""
        all_s = max(1e-9, self.all_s - before.all_s)
        foreign_s = self.busy_s - before.busy_s - (self.ours_s - before.ours_s)
        return (self.stolen_s - before.stolen_s) / all_s, max(0.0, foreign_s) / all_s
