#!/usr/bin/python3
"""Run one program of the suite with a tiny size for each subject, and look at its results.

usage: smoke.py PROGRAM EXTENSION [--without-lmdb]

Catches: a program that fails, hangs or reports nothing for a subject; one that leaves a subject out that
it should answer for, or answers for one that it cannot; a line that the runner could not read; a time, a
rate or a count that is zero. That numbers are right is not asked, and least of all that they are fast.
"""

import os
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import plots  # noqa: E402
from samples import parse_line  # noqa: E402

STOCK = {"wal-full", "wal-normal", "wal-mmap", "rollback"}
# Which subjects a program has no answer for.
LEFT_OUT = {
    "statements": set(),
    "bulk": set(),
    "sizes": set(),
    "costs": set(),
    "ycsb": set(),
    "first_pin": STOCK | {"dax-exclusive", "memory", "memdb", "lmdb"},
    "tpcc": {"lmdb"},
    "concurrency": {"dax-exclusive", "memory", "memdb"},
    "pinned": {"dax-exclusive", "memory", "memdb", "rollback"},
    "commit_tail": set(),
    "recovery": {"memory", "memdb", "lmdb", "rollback"},
    "page_cache": STOCK | {"dax", "dax-exclusive", "memory", "memdb", "lmdb"},
}
# Nothing takes no time. (A count of bytes, fences or system calls may be none; so may the rate of a thread
# that has a few milliseconds on a busy machine.)
POSITIVE = {"time", "p50", "p99", "p99.9", "max", "instructions", "open", "stored_total",
            "database_bytes"}


def check(program, subject, extension, expected):
    """What is wrong, or None."""
    directory = tempfile.mkdtemp(prefix="daxlite-bench-", dir=os.environ.get("DAX_BENCH_DIR", "/dev/shm"))
    try:
        done = subprocess.run([program, "--subject", subject, "--dir", directory, "--extension",
                               extension, "--tiny"], capture_output=True, text=True, timeout=240)
    finally:
        shutil.rmtree(directory)
    if done.returncode != expected:
        return f"exit status {done.returncode}, not {expected}: {done.stderr.strip()[-2000:]}"
    if expected == 77:
        return None if done.stderr.strip() else "does not say why it does not apply"
    results = []
    for line in done.stdout.splitlines():
        try:
            results.append(parse_line(line))
        except ValueError as error:
            return str(error)
    if not results or None in results:
        return f"standard output is not results: {done.stdout[:500]!r}"
    for result in results:
        if result.metric in POSITIVE and result.value <= 0:
            return f"{result} is not above 0"
    print(f"{os.path.basename(program)}: {subject}: {len(results)} results")
    return None


def main():
    program, extension = sys.argv[1:3]
    without_lmdb = "--without-lmdb" in sys.argv
    name = os.path.basename(program)
    if name not in LEFT_OUT:
        sys.exit(f"{name}: smoke.py does not know which subjects it answers for")
    failed = False
    for subject in plots.COLOURS:
        left_out = subject in LEFT_OUT[name] or (without_lmdb and subject == "lmdb")
        wrong = check(program, subject, extension, 77 if left_out else 0)
        if wrong:
            print(f"{name}: {subject}: {wrong}")
            failed = True
    sys.exit(failed)


if __name__ == "__main__":
    main()
