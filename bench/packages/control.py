"""Read Debian package lists: control-file stanzas, dependency relations, compressed files.

A list is a sequence of stanzas separated by blank lines; a stanza is a set of `Field: value` lines,
and a line that begins with a space or a tab continues the field before it (a line " ." there is an
empty line). Field names are case-insensitive. What does not look like that is reported as Malformed
with its line number; the stanzas around it are still good.
"""

import gzip
import lzma
import os
import re
import subprocess
from collections import namedtuple

APT_HELPER = "/usr/lib/apt/apt-helper"

Malformed = namedtuple("Malformed", "line reason")
Target = namedtuple("Target", "name architecture relation version")

RELATION = re.compile(
    r"""\s*(?P<name>[A-Za-z0-9][A-Za-z0-9+.\-_]*)
        (?: :(?P<architecture>[A-Za-z0-9\-]+) )?
        \s*(?: \(\s*(?P<relation><<|<=|>=|>>|=|<|>)\s*(?P<version>[^\s)]+)\s*\) )?
        \s*(?: \[[^\]]*\] )? \s*(?: <[^>]*>\s* )* $""",
    re.VERBOSE,
)
# Policy: a bare < or > is an old spelling of <= or >=.
RELATION_SPELLING = {"<": "<=", ">": ">="}


def read_list(path):
    """The bytes of a list, decompressed."""
    if path.endswith(".gz"):
        with gzip.open(path) as stream:
            return stream.read()
    if path.endswith(".xz"):
        with lzma.open(path) as stream:
            return stream.read()
    if path.endswith((".lz4", ".zst", ".bz2")):
        if not os.access(APT_HELPER, os.X_OK):
            raise OSError(f"{path}: {APT_HELPER} is needed to decompress it (Debian package apt)")
        result = subprocess.run([APT_HELPER, "cat-file", path], capture_output=True)
        if result.returncode != 0:
            message = result.stderr.decode(errors="replace").strip()
            raise OSError(f"{path}: cannot be decompressed: {message}")
        return result.stdout
    with open(path, "rb") as stream:
        return stream.read()


def parse_stanza(lines, first_line):
    """Fields of one stanza (names in lower case) or the Malformed that ends it."""
    fields = {}
    name = None
    for number, line in enumerate(lines, first_line):
        if line[0] in " \t":
            if name is None:
                return Malformed(number, "continuation line without a field")
            rest = line[1:].rstrip()
            fields[name].append("" if rest == "." else rest)
            continue
        head, colon, value = line.partition(":")
        if not colon or not head or " " in head:
            return Malformed(number, "neither a field nor a continuation line")
        name = head.lower()
        if name in fields:
            return Malformed(number, f"field {head} stands twice")
        fields[name] = [value.strip()]
    return {name: "\n".join(parts) for name, parts in fields.items()}


def stanzas(content):
    """Yield (end_offset, fields or Malformed) for each stanza of a list's bytes."""
    start = 0
    line_number = 1
    lines = []
    first_line = 1
    size = len(content)
    while start < size:
        end = content.find(b"\n", start)
        if end < 0:
            end = size
        line = content[start:end].decode("utf-8", "replace").rstrip("\r")
        start = end + 1
        if line.strip():
            if not lines:
                first_line = line_number
            lines.append(line)
        elif lines:
            yield start, parse_stanza(lines, first_line)
            lines = []
        line_number += 1
    if lines:
        yield size, parse_stanza(lines, first_line)


def relations(value):
    """`a (>= 1) | b, c` as [[Target a, Target b], [Target c]]; ValueError names what is not one."""
    groups = []
    for group in value.replace("\n", " ").split(","):
        if not group.strip():
            continue
        targets = []
        for alternative in group.split("|"):
            match = RELATION.match(alternative)
            if not match:
                raise ValueError(f"not a relation: {alternative.strip()!r}")
            relation = match["relation"]
            relation = RELATION_SPELLING.get(relation, relation)
            targets.append(Target(match["name"], match["architecture"], relation, match["version"]))
        groups.append(targets)
    return groups


def split_description(value):
    """(summary, long text or None) of a Description field."""
    summary, newline, rest = value.partition("\n")
    return summary, rest if newline and rest.strip() else None


def split_maintainer(value):
    """(name, address or None) of a Maintainer field."""
    match = re.match(r'\s*"?([^<"]*?)"?\s*<([^>]*)>\s*$', value)
    if not match:
        return value.strip(), None
    return match[1] or match[2], match[2]
