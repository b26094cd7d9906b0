"""What the figures are of: machine, kernel, media, versions, commit, what else was running."""

import datetime
import os
import platform
import re
import subprocess


def output_of(*command, cwd=None):
    try:
        return subprocess.run(command, cwd=cwd, check=True, capture_output=True,
                              text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def first_match(path, pattern):
    try:
        with open(path, encoding="utf-8") as stream:
            match = re.search(pattern, stream.read(), re.MULTILINE)
    except OSError:
        return None
    return match.group(1).strip() if match else None


def busy_seconds():
    """CPU seconds that the whole machine has spent on anything, since it was started."""
    with open("/proc/stat", encoding="utf-8") as stream:
        user, nice, system, _, _, irq, softirq, steal = map(int, stream.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def children_seconds():
    """CPU seconds of this process and of all its children that have ended."""
    return sum(os.times()[:4])


class Foreign:
    """How much of the machine others used while it was measured: a run beside them means less."""

    def __init__(self):
        self._wall = os.times().elapsed
        self._busy, self._own = busy_seconds(), children_seconds()

    def share(self):
        """CPUs that others kept busy, on average since it was made."""
        wall = max(os.times().elapsed - self._wall, 1e-9)
        others = (busy_seconds() - self._busy) - (children_seconds() - self._own)
        return max(others / wall, 0)


def may_be_alone():
    """Whether bench/common/alone.c gets the priority that it asks for."""
    child = os.fork()
    if child == 0:
        try:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
            os._exit(0)
        except OSError:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def priority(shared):
    if shared:
        return "that of everybody else (--shared)"
    if may_be_alone():
        return "stretches of one thread have a core to themselves, at real-time priority"
    return "that of everybody else: real-time priority is not permitted (run as root)"


def commit_of(directory):
    commit = output_of("git", "rev-parse", "--short=12", "HEAD", cwd=directory)
    if not commit:
        return "not a git checkout"
    changed = output_of("git", "status", "--porcelain", "--untracked-files=no", cwd=directory)
    return commit + (" with uncommitted changes" if changed else "")


def medium_of(directory):
    kind = output_of("stat", "-f", "-c", "%T", directory)
    source = output_of("df", "--output=source", directory).splitlines()
    return f"{kind or '?'} ({source[-1] if source else '?'})"


def package_version(package):
    version = output_of("dpkg-query", "-W", "-f", "${Version}", package)
    return version or "?"


def describe(root, media):
    """[(what, text)] for the document; media: {name: directory}."""
    memory = first_match("/proc/meminfo", r"^MemTotal:\s+(\d+) kB")
    model = first_match("/proc/cpuinfo", r"^model name\s*:(.*)$")
    facts = [
        ("date", datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")),
        ("commit", commit_of(root)),
        ("CPU", f"{model or platform.machine()}, {os.cpu_count()} CPUs"),
        ("memory", f"{int(memory) / 2**20:.1f} GiB" if memory else "?"),
        ("kernel", platform.release()),
    ]
    facts += [(f"medium: {name}", medium_of(directory)) for name, directory in media.items()]
    facts += [
        ("SQLite", output_of("pkg-config", "--modversion", "sqlite3") or "?"),
        ("LMDB", package_version("liblmdb0")),
        ("libpmemobj", package_version("libpmemobj1")),
        ("compiler", (output_of("gcc", "--version").splitlines() or ["?"])[0]),
    ]
    return facts
