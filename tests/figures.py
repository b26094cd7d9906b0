#!/usr/bin/python3
"""Put the figures of the last ./test, or ./test --long, into docs/durability.md.

usage: tests/figures.py [--long] [FILE]

FILE (default build/figures.txt) has a line "CONFIGURATION: NAME: VALUE" for each; ./test makes it.
The table between the two markers in the document is replaced. A value that occurs more than once
under one name is added up if it is a whole number, as shards of one proof print it; the programs of
the interleaving explorer, a line each, become their number and the sum of their states.
"""

import datetime
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
DOCUMENT = os.path.join(HERE, "..", "docs", "durability.md")


def summed(configuration, name, value):
    """The rows that a figure adds to."""
    states = re.search(r"\((\d+) states\)", value)
    if name.startswith("interleavings ") and states:
        return [(configuration, "interleavings: programs explored", "1"),
                (configuration, "interleavings: distinct states", states.group(1))]
    if name.startswith("weakening found, "):
        return [(configuration, "interleavings: weakenings found", "1")]
    return [(configuration, name, value)]


def figures(path):
    """[(configuration, name, value)] in the order of the file."""
    rows = {}
    with open(path, encoding="utf-8") as stream:
        for line in stream:
            match = re.fullmatch(r"([\w-]+): (.+?): (.+)", line.strip())
            if not match:
                sys.exit(f"{path}: not a figure: {line.strip()!r}")
            for configuration, name, value in summed(*match.groups()):
                before = rows.get((configuration, name))
                if before is not None and before.isdigit() and value.isdigit():
                    value = str(int(before) + int(value))
                rows[configuration, name] = value
    return [(configuration, name, value) for (configuration, name), value in rows.items()]


def show(value):
    return f"{int(value):,}".replace(",", " ") if value.isdigit() else value


def main():
    arguments = sys.argv[1:]
    long = "--long" in arguments
    if long:
        arguments.remove("--long")
    path = arguments[0] if arguments else os.path.join(HERE, "..", "build", "figures.txt")
    which = "long figures" if long else "figures"
    begin, end = f"<!-- {which}: begin -->", f"<!-- {which}: end -->"
    with open(DOCUMENT, encoding="utf-8") as stream:
        text = stream.read()
    if text.count(begin) != 1 or text.count(end) != 1:
        sys.exit(f"{DOCUMENT}: no place for the {which}")
    command = "./test --long" if long else "./test"
    lines = [f"`{command}` of {datetime.date.today().isoformat()}:", "", "| | configuration | |",
             "|---|---|---|"]
    lines += [f"| {name} | {configuration} | {show(value)} |"
              for configuration, name, value in sorted(figures(path), key=lambda row: row[1])]
    head, rest = text.split(begin)
    tail = rest.split(end)[1]
    with open(DOCUMENT, "w", encoding="utf-8") as stream:
        stream.write(head + begin + "\n" + "\n".join(lines) + "\n" + end + tail)


if __name__ == "__main__":
    main()
