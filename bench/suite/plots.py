"""Plots of a run, made by gnuplot: bars of a few questions, lines over a number.

A plot is skipped where nothing of it was measured. Each subject has the same colour everywhere.
"""

import collections
import os
import subprocess

from samples import Key, number_of, parameters_of

COLOURS = {
    "dax": "#0072B2", "dax-exclusive": "#003F63", "dax-embedded": "#56B4E9", "wal-full": "#D55E00", "wal-normal": "#E69F00",
    "wal-mmap": "#CC79A7", "rollback": "#8C8C8C", "memory": "#009E73", "memdb": "#8FD9C0",
    "lmdb": "#222222",
}

# keys: (label, workload, parameter, metric) for each group of bars. series: where these are no subjects, but ways
# that one subject goes: {name: (colour, what is put in front of the parameter)}.
Bars = collections.namedtuple("Bars", "name title y program medium keys log subject series")
# over: the name of the number in the parameter; other: what the rest of the parameter must be.
Lines = collections.namedtuple("Lines",
                               "name title x y program medium workload metric over other logs")


def bars(name, title, y, program, keys, medium="tmpfs", log=True, subject=None, series=None):
    return Bars(name, title, y, program, medium, keys, log, subject, series)


def lines(name, title, x, y, program, workload, metric, over, other=None, logs="xy",
          medium="tmpfs"):
    return Lines(name, title, x, y, program, medium, workload, metric, over, other or {}, logs)


STATEMENTS = [("select", "select", "-", "time"), ("scan 10", "scan", "rows=10", "time"),
              ("scan 1000", "scan", "rows=1000", "time")] + [
                  (f"{verb}{', ' + n + ' index' if n != '0' else ''}{'es' if n == '4' else ''}",
                   verb, f"indexes={n}", "time")
                  for verb in ("update", "insert", "delete") for n in ("0", "1", "4")]
TAIL = [(f"{metric}{', reader' if readers else ''}", "commit_tail", f"readers={readers}", metric)
        for readers in (0, 1) for metric in ("p50", "p99", "p99.9", "max")]
STORED = [(f"{verb}, {n} ind.", verb, f"indexes={n}", "stored_bytes")
          for verb in ("update", "insert", "delete") for n in ("0", "1", "4")]

# Page cache and allocator of an embedding program, see bench/page_cache.c.
CONFIGS = {
    "SQLite's own": ("#8C8C8C", "config=sqlite"), "page cache": ("#0072B2", "config=page_cache"),
    "jemalloc": ("#E69F00", "config=jemalloc"), "both": ("#56B4E9", "config=both"),
    "both, uncounted": ("#009E73", "config=uncounted"),
}
EMBEDDED = [(label, workload, "", "ratio") for label, workload in (
    ("update", "update"), ("insert", "insert"), ("1000 updates", "transaction"), ("load", "load"),
    ("CREATE INDEX", "create_index"), ("two indexes", "indexed"), ("update :memory:", "update_memory"),
    ("select", "select"), ("GROUP BY", "group_by"), ("scan, copied", "scan_copying"),
    ("select, copied", "select_copying"), ("skewed, copied", "skewed_copying"),
    ("skewed + scans", "skewed_scans_copying"))]
CONNECTIONS = [(f"{n}, {kind}", f"connections_{kind}", f"connections={n}", "memory")
               for kind in ("read", "updated", "scanned", "released") for n in (1, 10, 100)]

PLOTS = [
    bars("statements", "One statement, one transaction (tmpfs)", "us", "statements", STATEMENTS),
    bars("disk", "One statement, one transaction (disk, msync mode)", "us", "statements",
         [key for key in STATEMENTS if key[1] != "scan"], medium="disk"),
    lines("transactions", "Updates in one transaction", "rows", "us for a row", "statements",
          "transaction", "time", "rows"),
    bars("tail", "One-row UPDATE: latency, checkpoints included", "us", "commit_tail", TAIL),
    bars("stored", "Bytes stored to the medium by one statement", "bytes", "statements", STORED),
    bars("bulk", "Whole operations", "s", "bulk",
         [("load", "load", "-", "time"), ("CREATE INDEX", "create_index", "-", "time"),
          ("VACUUM", "vacuum", "-", "time")], log=False),
    lines("blob_read", "A BLOB read", "bytes", "us", "bulk", "blob_read", "time", "bytes"),
    lines("blob_store", "A BLOB stored, one transaction each", "bytes", "us", "bulk", "blob_store",
          "time", "bytes"),
    lines("sizes_select", "Point SELECT, warm, by size of the database", "bytes", "us", "sizes",
          "select", "time", "size", {"state": "warm"}),
    lines("sizes_cold", "Point SELECT right after opening, by size of the database", "bytes", "us",
          "sizes", "select", "time", "size", {"state": "cold"}),
    lines("sizes_update", "One-row UPDATE by size of the database", "bytes", "us", "sizes",
          "update", "time", "size", {"state": "warm"}),
    bars("system_calls", "System calls of one operation (no bar: none)", "calls", "costs",
         [("select", "select", "-", "syscalls"), ("update", "update", "-", "syscalls"),
          ("scan 1000", "scan", "rows=1000", "syscalls")], log=False),
    bars("instructions", "Instructions of one operation", "instructions", "costs",
         [("select", "select", "-", "instructions"), ("update", "update", "-", "instructions")],
         log=False),
    lines("memory", "Memory of a process by its connections", "connections", "bytes", "costs",
          "memory", "memory", "connections"),
    bars("ycsb", "YCSB: one operation", "us", "ycsb",
         [(letter.upper(), f"ycsb_{letter}", "-", "time") for letter in "abcdef"]),
    bars("tpcc", "TPC-C-like mix: one transaction", "us", "tpcc",
         [("1 client", "tpcc", "clients=1", "time"), ("4 clients", "tpcc", "clients=4", "time")],
         log=False),
    lines("readers", "Rate of one reader, beside a busy writer", "readers", "reads/s",
          "concurrency", "readers", "rate", "readers", {"writer": "1"}, logs="y"),
    lines("readers_alone", "Rate of one reader, without a writer", "readers", "reads/s",
          "concurrency", "readers", "rate", "readers", {"writer": "0"}, logs="y"),
    lines("writers", "Rate of all writers together", "writers", "updates/s", "concurrency",
          "writers", "rate", "writers", logs=""),
    bars("recovery", "From opening after a kill to the first row", "s", "recovery",
         [(f"{database} MB, log {log} MB", "recovery", f"database={database};log={log}", "open")
          for database, log in ((10, 8), (100, 8), (1000, 8), (10, 16), (10, 64))]
         + [(f"{database} MB, 10 updated", "recovery", f"database={database};log=8;updated=10", "open")
            for database in (100, 1000)], log=False),
    lines("pinned_log", "Behind a pinned reader: the log (or WAL)", "updates", "bytes", "pinned",
          "pinned", "log_live", "updates", logs=""),
    lines("pinned_file", "Behind a pinned reader: the database file", "updates", "bytes", "pinned",
          "pinned", "file_bytes", "updates", logs=""),
    lines("pinned_memory", "Behind a pinned reader: memory of the process", "updates", "bytes",
          "pinned", "pinned", "anonymous", "updates", logs=""),
    bars("page_cache", "Embedded: page cache and allocator", "CPU time, SQLite's own = 1",
         "page_cache", EMBEDDED, log=False, subject="dax-embedded", series=CONFIGS),
    bars("page_cache_memory", "Embedded: memory of further connections", "bytes", "page_cache",
         CONNECTIONS, subject="dax-embedded", series=CONFIGS),
]


def bar_colours(plot):
    """{series: colour}"""
    return {name: colour for name, (colour, _) in plot.series.items()} if plot.series else COLOURS


def bar_key(plot, series, workload, parameter, metric):
    if not plot.series:
        return Key(plot.medium, plot.program, series, workload, parameter, metric)
    parameter = ";".join(filter(None, (plot.series[series][1], parameter)))
    return Key(plot.medium, plot.program, plot.subject, workload, parameter, metric)


def bar_rows(samples, plot):
    """[(label, {series: Summary})] of those that anybody has."""
    rows = []
    for label, workload, parameter, metric in plot.keys:
        found = {}
        for series in bar_colours(plot):
            s = samples.summary(bar_key(plot, series, workload, parameter, metric))
            if s and (s.median > 0 or not plot.log):
                found[series] = s
        if found:
            rows.append((label, found))
    return rows


def line_points(samples, plot, subjects):
    """{subject: [(x, Summary)]}, by x."""
    points = {}
    for key in samples.keys():
        if (key.medium, key.program, key.workload, key.metric) != (
                plot.medium, plot.program, plot.workload, plot.metric):
            continue
        rest = parameters_of(key.parameter)
        rest.pop(plot.over, None)
        x = number_of(key.parameter, plot.over)
        s = samples.summary(key)
        if x is None or rest != plot.other or key.subject not in subjects:
            continue
        if ("x" in plot.logs and x <= 0) or ("y" in plot.logs and s.median <= 0):
            continue
        points.setdefault(key.subject, []).append((x, s))
    return {subject: sorted(points[subject]) for subject in subjects
            if len(points.get(subject, [])) > 1}


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def short_numbers(log):
    """Of an axis, with k, M, G. A linear one has marks between whole numbers: 1.5M is not to be 2M."""
    return "'%.0s%c'" if log else "'%.1s%c'"


# From the least to the greatest. (Error bars would come with a white spot where a point is not drawn.)
SPREAD = "using 1:3:(0):($4-$3) with vectors nohead"


def head(plot, path, width):
    return [
        f"set terminal pngcairo size {width},600 font 'DejaVu Sans,11' background 'white'",
        f"set output {quoted(path)}",
        f"set title {quoted(plot.title)} noenhanced font ',14'",
        f"set ylabel {quoted(plot.y)}",
        "set key outside right top noenhanced",
        "set grid ytics linecolor '#dddddd'",
        "set tics nomirror", "set border 3",
    ]


def bars_script(plot, rows, path):
    """Boxes side by side; the thin lines are the spread."""
    colours = bar_colours(plot)
    subjects = [s for s in colours if any(s in found for _, found in rows)]
    width = 0.85 / len(subjects)
    script = head(plot, path, max(900, 110 * len(rows) + 250))
    tics = ", ".join(f"{quoted(label)} {i}" for i, (label, _) in enumerate(rows))
    script += [f"set xtics ({tics}) rotate by -30 noenhanced",
               f"set xrange [-0.6:{len(rows) - 0.4}]",
               f"set boxwidth {width * 0.92}", "set style fill solid noborder"]
    if plot.y == "bytes":
        script.append(f"set format y {short_numbers(plot.log)}")
    if plot.log:
        lowest = min(s.low if s.low > 0 else s.median for _, f in rows for s in f.values())
        script += ["set logscale y", f"set yrange [{lowest / 2:.6g}:*]"]
    else:
        script += ["set yrange [0:*]"]
    curves = []
    for k, subject in enumerate(subjects):
        script.append(f"$s{k} << END")
        for i, (_, found) in enumerate(rows):
            if subject in found:
                s = found[subject]
                x = i + (k - (len(subjects) - 1) / 2) * width
                script.append(f"{x:.4f} {s.median:.6g} {s.low:.6g} {s.high:.6g}")
        script.append("END")
        curves.append(f"$s{k} using 1:2 with boxes linecolor '{colours[subject]}'"
                      f" title {quoted(subject)}")
        curves.append(f"$s{k} {SPREAD} linecolor '#444444' notitle")
    return script + ["plot " + ", \\\n  ".join(curves)]


def lines_script(plot, points, path):
    script = head(plot, path, 1000)
    script.append(f"set xlabel {quoted(plot.x)}")
    script.append(f"set format x {short_numbers('x' in plot.logs)}")
    script.append("set format y '%g'" if plot.y.startswith("us") else
                  f"set format y {short_numbers('y' in plot.logs)}")
    if "x" in plot.logs:
        script.append("set logscale x")
    if "y" in plot.logs:
        script.append("set logscale y")
    else:
        script.append("set yrange [0:*]")
    curves = []
    for k, (subject, values) in enumerate(points.items()):
        script.append(f"$s{k} << END")
        script += [f"{x:.9g} {s.median:.6g} {s.low:.6g} {s.high:.6g}" for x, s in values]
        script.append("END")
        curves.append(f"$s{k} using 1:2 with linespoints linewidth 2 pointtype {k + 4}"
                      f" linecolor '{COLOURS[subject]}' title {quoted(subject)}")
        curves.append(f"$s{k} {SPREAD} linecolor '{COLOURS[subject]}' notitle")
    return script + ["plot " + ", \\\n  ".join(curves)]


def script_of(samples, plot, path):
    """The gnuplot script, or None where there is nothing to draw."""
    if isinstance(plot, Bars):
        rows = bar_rows(samples, plot)
        return bars_script(plot, rows, path) if rows else None
    points = line_points(samples, plot, list(COLOURS))
    return lines_script(plot, points, path) if points else None


def draw(samples, directory):
    """Draws what there is; returns ([(file name, title)], [what went wrong])."""
    drawn, errors = [], []
    for plot in PLOTS:
        name = f"{plot.name}.png"
        script = script_of(samples, plot, os.path.join(directory, name))
        if script is None:
            continue
        try:
            subprocess.run(["gnuplot"], input="\n".join(script) + "\n", text=True, check=True,
                           capture_output=True)
            drawn.append((name, plot.title))
        except FileNotFoundError:
            return drawn, ["gnuplot is missing: no plots (bench/run installs gnuplot-nox)"]
        except subprocess.CalledProcessError as error:
            errors.append(f"gnuplot, {name}: {error.stderr.strip()}")
    return drawn, errors
