#!/usr/bin/python3
"""Prove that the crash explorer finds what it is for.

    prove.py points PROGRAM [--check FILE | --write FILE]
    prove.py mutations DIRECTORY MUTATIONS

points leaves out one ordering point after the other (crash_explore --drop): a violation must be found
without each of them. --write puts the table into FILE between its markers, --check compares it.
mutations runs the mutated engines of mutate.py: each must be caught.
"""
import difflib
import os
import re
import subprocess
import sys

import mutate

# Point, what it orders, and where its absence has to show; "damage": only where a bit is turned over. The program's list (--points) is complete: a
# point of the engine without a line here is looked for everywhere.
POINTS = {
    "P1": ("direct and scratch pages before the record that publishes them", ["multi fence", "multi msync"]),
    "P2": ("the commit record before its lines go to base, and before the commit returns",
           ["single fence", "single msync"]),
    "P3": ("applied and rehomed lines in base before the cursor passes their records",
           ["again fence", "wrap msync"]),
    "P4": ("the new cursor before the log, scratch and file behind it are reused, and before the mark",
           ["shrink fence", "single msync"]),
    "P5": ("the mark's body before byte 19 announces it", ["single fence"]),
    "P6": ("byte 19 set before the first record and the first growth; removed before the body goes",
           ["grow fence", "grow msync"]),
    "P7": ("the seal, which says that a record was whole, before anything of it goes to base",
           ["single fence damage", "wrap msync damage"]),
    "mark-set-fence": ("the mark's first word before the rest of its body", ["single fence"]),
    "mark-wipe-fence": ("the rest of the mark's body gone before its first word", ["single fence"]),
    "base-size": ("the database's size before records name what is in it (fsync)", ["grow fence", "grow msync"]),
    "sidecar-content": ("the new sidecar before it gets its name (fsync)", ["adopt fence", "adopt msync"]),
    "directory": ("the names of a new sidecar or database before the mark and the first commit "
                  "(fsync)", ["adopt fence", "lost msync"]),
}
# Where a state has many lines in flight, the one that matters may not be in a small sample.
SAMPLES = [["--exhaustive", "256", "--samples", "32", "--seed", "1"],
           ["--exhaustive", "256", "--samples", "128", "--seed", "2"]]
# One crash; two; one, and a bit of the log or a cursor turned over; both.
KINDS = [["--deep", "0", "--damage", "0"], ["--deep", "10", "--damage", "0"],
         ["--deep", "0", "--damage", "1"], ["--deep", "10", "--damage", "1"]]


def explore(program, where, extra):
    """The row that --row prints for the first violation, or None."""
    workload, rules, *damage = ("all both" if where == "all" else where).split()
    kinds = KINDS[2:] if damage else KINDS
    for sample, kind in [(s, k) for s in SAMPLES for k in kinds]:
        command = [program, "--workload", workload, "--rules", rules, "--row", "--expect-violation",
                   *sample, *kind, *extra]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        rows = [line for line in done.stdout.splitlines() if line.count(" | ") >= 3]
        if done.returncode == 0 and rows:
            return rows[0].split(" | ", 3)
        if done.returncode != 1:
            break
    print(f"{' '.join(command)}\nstatus {done.returncode}\n{done.stdout}{done.stderr}")
    return None


def brief(text):
    """A message without what depends on the versions of SQLite and libpmemobj."""
    text = re.sub(r"CANT_OPEN: app\.db was not closed by daxlite and needs its sidecar.*",
                  "its sidecar is missing", text)
    text = re.split(r" \(expected|, the first| \(LSN|: the log|: app\.db|: it has been", text)[0]
    text = re.sub(r"the database is a mixture: \d+ bytes", "the database is a mixture", text)
    text = re.sub(r"\(sidecar 0x[0-9a-f]+\)", "", text).replace(" :", ":")
    return text.replace("app.db: ", "")


def points(program, mode, path):
    listed = subprocess.run([program, "--points"], stdout=subprocess.PIPE, text=True,
                            check=True).stdout.split()
    rows, missing = [], []
    for point in listed:
        orders, places = POINTS.get(point, ("(not described in prove.py)", ["all"]))
        for where in places:
            found = explore(program, where, ["--drop", point])
            if not found:
                missing.append(f"{point} ({where})")
                continue
            workload, rules, operation, what = found
            rows.append(f"| {point} | {orders} | `{workload}`, {rules} | {operation} | {brief(what)} |")
            print(f"without {point}: {workload}, {rules} rules, operation {operation}: {what}",
                  flush=True)
    found = len(listed) - len({m.split()[0] for m in missing})
    print(f"figure: ordering points whose absence is found: {found} of {len(listed)}")
    if missing:
        sys.exit(f"no violation is found without {', '.join(missing)}")
    return table(mode, path, rows) if mode else 0


def table(mode, path, rows):
    begin, end = "<!-- generated: begin -->", "<!-- generated: end -->"
    with open(path, encoding="utf-8") as f:
        old = f.read()
    head, rest = old.split(begin)
    tail = rest.split(end)[1]
    new = "\n".join([head + begin, "| point | orders | workload, rules | operation | violation |",
                     "|---|---|---|---|---|", *rows, end + tail])
    if mode == "--write":
        with open(path, "w", encoding="utf-8") as f:
            f.write(new)
    elif new != old:
        sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), new.splitlines(True), path,
                                                   "what the explorer finds"))
        print(f"{path} is out of date: ninja crash_table writes it anew")
        return 1
    return 0


def mutations(directory, path):
    blocks, caught = mutate.load(path), 0
    for block in blocks:
        program = os.path.join(directory, "crash_mutated_" + block["name"])
        found = explore(program, block["run"], [])
        caught += bool(found)
        print(f"{block['name']}: {block['breaks']}: "
              + (f"{found[0]}, {found[1]} rules, operation {found[2]}: {found[3]}" if found
                 else "NOT CAUGHT"), flush=True)
    print(f"figure: mutations of the engine caught: {caught} of {len(blocks)}")
    return caught != len(blocks)


def main():
    if sys.argv[1] == "points":
        sys.exit(points(sys.argv[2], *(sys.argv[3:] or [None, None])))
    sys.exit(mutations(sys.argv[2], sys.argv[3]))


if __name__ == "__main__":
    main()
