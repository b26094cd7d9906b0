"""The marks: what daxlite has to reach, each a number of the run and a bound on it.

A number is a Ratio of two keys, taken within each round, or one key alone. `met` looks at the median; the
spread is printed beside it, and beside a ratio of times that of the CPU times, in which what else runs on
the machine is not.
"""

import collections

from samples import Key

# floor: the same ratio with memdb in daxlite's place, where there is one.
Mark = collections.namedtuple("Mark", "what number bound at_most note floor", defaults=(None,))
Ratio = collections.namedtuple("Ratio", "over under")
# alone: the ratio under locking_mode=EXCLUSIVE, where that was measured.
Verdict = collections.namedtuple("Verdict", "mark summary cpu met floor alone")

TMPFS, DISK = "tmpfs", "disk"


def key(program, subject, workload, parameter, metric, medium=TMPFS):
    return Key(medium, program, subject, workload, parameter, metric)


def times(program, workload, parameter, over, under, metric="time", medium=TMPFS):
    """One subject's number as a multiple of another's."""
    return Ratio(key(program, over, workload, parameter, metric, medium),
                 key(program, under, workload, parameter, metric, medium))


def floor_of(program, workload, parameter):
    """What is left if whatever stands below SQLite did nothing but keep the bytes in DRAM, for one connection
    and until it ends: stock SQLite on its memdb VFS."""
    return times(program, workload, parameter, "memdb", "memory")


def ceiling_of(program, workload, parameter, over):
    """How far the subject `over` is away from that."""
    return times(program, workload, parameter, over, "memdb")


UPDATE = ("statements", "update", "indexes=0")
SELECT = ("statements", "select", "-")
SCAN = ("statements", "scan", "rows=1000")
LOAD = ("bulk", "load", "-")
TPCC = ("tpcc", "tpcc", "clients=1")

MARKS = [
    Mark("one-row durable UPDATE: time over `:memory:`", times(*UPDATE, "dax", "memory"), 1.25,
         True, "the aim beyond: 1.10", floor_of(*UPDATE)),
    Mark("one-row durable UPDATE: stock WAL FULL over daxlite", times(*UPDATE, "wal-full", "dax"),
         4.5, False, "", ceiling_of(*UPDATE, "wal-full")),
    Mark("one-row durable UPDATE: LMDB put + commit over daxlite", times(*UPDATE, "lmdb", "dax"),
         1.0, False, "LMDB without SQL"),
    Mark("point SELECT: time over `:memory:`", times(*SELECT, "dax", "memory"), 1.10, True,
         "the aim beyond: 0.95", floor_of(*SELECT)),
    Mark("point SELECT: stock WAL + mmap over daxlite", times(*SELECT, "wal-mmap", "dax"), 3.3,
         False, "", ceiling_of(*SELECT, "wal-mmap")),
    Mark("bulk load of 1 M rows in one transaction: time over `:memory:`",
         times(*LOAD, "dax", "memory"), 1.0, True, "100 000 rows in quick runs", floor_of(*LOAD)),
    Mark("bulk load: bytes stored over bytes of the database",
         Ratio(key(*LOAD[:1], "dax", *LOAD[1:], "stored_total"),
               key(*LOAD[:1], "dax", *LOAD[1:], "database_bytes")), 1.01, True,
         "each page stored once"),
    Mark("1 000-row range scan: time over `:memory:`", times(*SCAN, "dax", "memory"), 1.0, True,
         "", floor_of(*SCAN)),
    Mark("TPC-C-like mix, 1 client: stock WAL FULL over daxlite",
         times(*TPCC, "wal-full", "dax"), 2.5, False, "", ceiling_of(*TPCC, "wal-full")),
    Mark("TPC-C-like mix, 1 client: time over `:memory:`", times(*TPCC, "dax", "memory"), 1.15,
         True, "", floor_of(*TPCC)),
    Mark("1 reader beside a busy writer: its rate over that without",
         key("concurrency", "dax", "readers", "readers=1", "kept"), 0.9, False,
         "two cores: one reader and the writer have one each"),
    Mark("1 reader beside a busy writer: rate over stock WAL + mmap",
         times("concurrency", "readers", "readers=1;writer=1", "dax", "wal-mmap", "rate"), 3.0,
         False, ""),
    Mark("4 contending writers: their rate over one writer's",
         key("concurrency", "dax", "writers", "writers=4", "kept"), 0.9, False, ""),
    Mark("log bytes of a one-row UPDATE", key(*UPDATE[:1], "dax", *UPDATE[1:], "log_bytes"),
         448, True, ""),
    Mark("bytes stored to the medium by a one-row UPDATE",
         key(*UPDATE[:1], "dax", *UPDATE[1:], "stored_bytes"), 1024, True, ""),
    Mark("one-row UPDATE: p99.9 over p50",
         key("commit_tail", "dax", "commit_tail", "readers=0", "tail"), 20, True,
         "checkpoints run inline"),
    Mark("one-row UPDATE: p99.9 over p50, by CPU time",
         key("commit_tail", "dax", "commit_tail", "readers=0;clock=cpu", "tail"), 20, True,
         "what else runs on the machine is not in it"),
    Mark("pinned reader: DRAM over the pages changed",
         key("pinned", "dax", "pinned", "-", "memory_per_page"), 1.1, True, ""),
    Mark("on a plain disk, one-row UPDATE: stock WAL FULL over daxlite",
         times(*UPDATE, "wal-full", "dax", medium=DISK), 1.5, False, "msync mode"),
    Mark("open after a crash with a full 8 MiB log, in seconds",
         key("recovery", "dax", "recovery", "database=10;log=8", "open"), 0.05, True, ""),
    Mark("the same of a database of 100 MB over that of 10 MB, rows anywhere in it updated",
         Ratio(key("recovery", "dax", "recovery", "database=100;log=8", "open"),
               key("recovery", "dax", "recovery", "database=10;log=8", "open")), 1.25, True,
         "the log names more pages then"),
    Mark("the same of a database of 100 MB over that of 10 MB, the same rows updated",
         Ratio(key("recovery", "dax", "recovery", "database=100;log=8;updated=10", "open"),
               key("recovery", "dax", "recovery", "database=10;log=8", "open")), 1.25, True,
         "independent of the database's size"),
    Mark("probe on first pin: CPU time of a cold scan with it over without",
         key("first_pin", "dax", "cold", "shape=dense;probe=on", "ratio"), 1.03, True, ""),
    Mark("probe on first pin: of a warm scan",
         key("first_pin", "dax", "warm", "shape=dense;probe=on", "ratio"), 1.005, True,
         "0 but for noise"),
]


def number_of(samples, number):
    """Its Summary, or None."""
    if isinstance(number, Ratio):
        return samples.ratio(number.over, number.under)
    return samples.summary(number)


def cpu_of(samples, number):
    """The same of CPU times, where it is a ratio of times on a medium that nobody waits for; or None."""
    if not isinstance(number, Ratio) or number.over.medium != TMPFS:
        return None
    if number.over.metric != "time" or number.under.metric != "time":
        return None
    return samples.ratio(*(key._replace(metric="cpu") for key in number))


def alone_of(samples, number):
    """The same with one connection that may write, as there is one to a `:memory:` database; or None."""
    if not isinstance(number, Ratio):
        return None
    over, under = (key._replace(subject="dax-exclusive") if key.subject == "dax" else key for key in number)
    return samples.ratio(over, under)


def judge(samples, marks=None):
    """A Verdict for each mark; summary and met are None where it was not measured."""
    verdicts = []
    for mark in MARKS if marks is None else marks:
        summary = number_of(samples, mark.number)
        met = None
        if summary:
            met = summary.median <= mark.bound if mark.at_most else summary.median >= mark.bound
        floor = number_of(samples, mark.floor) if mark.floor else None
        verdicts.append(Verdict(mark, summary, cpu_of(samples, mark.number), met, floor,
                                alone_of(samples, mark.number)))
    return verdicts
