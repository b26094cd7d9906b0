#!/usr/bin/python3
"""Catches: a parser that loses continuation lines, alternatives or the stanza after a damaged one;
an import that a kill -9 leaves half done or that its continuation stores twice; a database whose
content depends on the VFS it was made through.

usage: check.py IMPORTER SCRATCH_DIRECTORY [EXTENSION]
With an extension everything runs through the stock VFS and through dax.
"""

import gzip
import json
import lzma
import os
import shutil
import sqlite3
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
FIXTURE = os.path.join(HERE, "Packages")

COUNTS = {"package": 4, "dependency": 12, "provided": 2, "package_tag": 3, "maintainer": 3,
          "name": 7, "section": 2, "priority": 2, "list": 1, "availability": 4, "tag": 3,
          "dependency_kind": 8}
QUESTIONS = [
    ("the fields of a package",
     "SELECT version, architecture, source, essential, multi_arch, installed_kib, download_bytes,"
     " hex(sha256), homepage FROM package"
     " WHERE name_id = (SELECT id FROM name WHERE name = 'alpha')",
     [("1.0-1+b2", "amd64", "alpha-src", 0, "same", 120, 40960, "0123456789ABCDEF" * 4,
       "https://example.org/alpha?x=1&y='2'")]),
    ("continuation lines of a description",
     "SELECT summary, description FROM package WHERE source = 'alpha-src'",
     [("a first package with a r\u00e9sum\u00e9 of letters",
       "The long text goes on\nover several lines.\n\n  verbatim, and the word quetzalcoatl")]),
    ("alternatives, qualifiers and old spellings of relations",
     "SELECT kind.name, group_no, alternative, target.name, d.architecture, relation, d.version"
     " FROM dependency AS d JOIN dependency_kind AS kind ON kind.id = kind_id"
     " JOIN name AS target ON target.id = target_id JOIN package ON package.id = package_id"
     " WHERE source IN ('alpha-src', 'libbeta') AND kind.name = 'Depends'"
     " ORDER BY package_id, group_no, alternative",
     [("Depends", 1, 1, "libbeta", None, ">=", "2.0~rc1"),
      ("Depends", 2, 1, "gamma", "any", None, None),
      ("Depends", 2, 2, "delta", None, "<<", "1:3"), ("Depends", 3, 1, "editor", None, None, None),
      ("Depends", 1, 1, "alpha", None, ">=", "0.9"), ("Depends", 2, 1, "delta", None, "<=", "4"),
      ("Depends", 2, 2, "gamma", None, None, None), ("Depends", 3, 1, "gamma", None, "=", "1")]),
    ("maintainers", "SELECT name, address FROM maintainer ORDER BY id",
     [("Ann O'Nym, Dr.", "ann@example.org"), ("Debian Letters Team", ""),
      ("nobody@example.org", "nobody@example.org")]),
    ("the good stanza after damaged ones, once",
     "SELECT summary FROM package WHERE source = 'gamma'",
     [("the good one",)]),
    ("what is provided",
     "SELECT name, version FROM provided JOIN name ON name.id = name_id ORDER BY position",
     [("editor", "1.0"), ("first-letter", None)]),
    ("full text: stemmed, from the long text",
     "SELECT name FROM package_fts WHERE package_fts MATCH 'verbatim quetzalcoatl lines'",
     [("alpha",)]),
]


class Case:
    """One VFS: how to run the importer through it, and how to read what it made."""

    def __init__(self, vfs, importer, scratch, extension):
        self.vfs = vfs
        self.importer = importer
        self.extension = extension
        self.directory = os.path.join(scratch, vfs)
        shutil.rmtree(self.directory, ignore_errors=True)
        os.makedirs(self.directory)

    def path(self, name):
        return os.path.join(self.directory, name)

    def run(self, database, *arguments, lists=(FIXTURE,), expect=0):
        command = ["/usr/bin/python3", self.importer, "--vfs", self.vfs, "--json", *arguments,
                   self.path(database), *lists]
        if self.vfs != "stock":
            command[2:2] = ["--extension", self.extension]
        result = subprocess.run(command, capture_output=True, text=True)
        self.output = result.stdout + result.stderr
        claim(result.returncode == expect,
              f"{self.vfs}: {' '.join(command)} exits with {expect}, not {result.returncode}:\n"
              + self.output)
        return json.loads(result.stdout) if result.returncode == 0 else None

    def rows(self, database, sql):
        """Through stock SQLite: at rest the file is a plain database."""
        db = sqlite3.connect(self.path(database))
        try:
            return db.execute(sql).fetchall()
        finally:
            db.close()

    def content(self, database):
        """Every row of every real table, but where the list came from."""
        return {table: self.rows(database, f"SELECT * FROM {table}") for table in COUNTS
                if table != "list"}


def claim(holds, text):
    if not holds:
        print(f"FAILED: {text}")
        sys.exit(1)


def import_is_right(case):
    result = case.run("whole.db", "--check")
    claim(result["malformed"] == 5, f"{case.vfs}: 5 malformed stanzas, not {result['malformed']}")
    for table, count in COUNTS.items():
        found = case.rows("whole.db", f"SELECT count(*) FROM {table}")[0][0]
        claim(found == count, f"{case.vfs}: {count} rows in {table}, not {found}")
    for what, sql, answer in QUESTIONS:
        found = case.rows("whole.db", sql)
        claim(found == answer, f"{case.vfs}: {what}\n  expected {answer}\n  found    {found}")


def killed_import_continues(case):
    """With one package per transaction, killed after the first, second, third."""
    for transactions in (1, 2, 3):
        database = f"killed{transactions}.db"
        case.run(database, "--batch", "1", "--stop-after", str(transactions), expect=-9)
        result = case.run(database, "--check")
        claim(result["stored"] == COUNTS["package"] - transactions,
              f"{case.vfs}: killed after {transactions} packages,"
              f" {result['stored']} were stored again")
        claim(case.content(database) == case.content("whole.db"),
              f"{case.vfs}: continued after {transactions} transactions, the content differs")


def second_run_changes_nothing(case):
    before = case.content("whole.db")
    result = case.run("whole.db", "--check")
    claim(result["stored"] == 0 and result["removed"] == 0,
          f"{case.vfs}: a second run stored {result}")
    claim("up to date" in case.output, f"{case.vfs}: a second run says that it is up to date")
    claim(case.content("whole.db") == before, f"{case.vfs}: a second run changed the content")


def compressed_lists_are_read(case):
    with open(FIXTURE, "rb") as stream:
        content = stream.read()
    for suffix, compress in ((".gz", gzip.compress), (".xz", lzma.compress)):
        path = case.path("Packages" + suffix)
        with open(path, "wb") as stream:
            stream.write(compress(content))
        case.run(f"compressed{suffix}.db", lists=[path])
        claim(case.content(f"compressed{suffix}.db") == case.content("whole.db"),
              f"{case.vfs}: the content of a {suffix} list differs")


def changed_list_is_followed(case):
    """delta is gone, alpha has a new text: rows, full text and dependencies follow."""
    with open(FIXTURE, encoding="utf-8") as stream:
        text = stream.read()
    changed = case.path("changed/Packages")
    os.makedirs(os.path.dirname(changed))
    with open(changed, "w", encoding="utf-8") as stream:
        stream.write(text[:text.rindex("Package: delta")].replace("quetzalcoatl", "axolotl"))
    result = case.run("whole.db", "--check", lists=[changed])
    claim(result["removed"] == 1, f"{case.vfs}: 1 package removed, not {result['removed']}")
    claim(case.rows("whole.db", "SELECT count(*) FROM package") == [(3,)],
          f"{case.vfs}: a package that no list offers is removed")
    for word, count in (("axolotl", 1), ("quetzalcoatl", 0), ("newline", 0)):
        found = case.rows("whole.db",
                          f"SELECT count(*) FROM package_fts WHERE package_fts MATCH '{word}'")
        claim(found == [(count,)], f"{case.vfs}: {word} is found {count} times, not {found}")


def foreign_files_are_left_alone(case):
    db = sqlite3.connect(case.path("foreign.db"))
    db.execute("CREATE TABLE precious(x)")
    db.commit()
    db.close()
    for arguments in ([], ["--fresh"]):
        case.run("foreign.db", *arguments, expect=1)
        claim("foreign.db" in case.output, f"{case.vfs}: the message names the file: {case.output}")
        claim(case.rows("foreign.db", "SELECT name FROM sqlite_schema") == [("precious",)],
              f"{case.vfs}: a database of something else is untouched")
    case.run("killed1.db", "--fresh")
    claim(case.rows("killed1.db", "SELECT count(*) FROM package") == [(COUNTS["package"],)],
          f"{case.vfs}: --fresh makes the whole database again")


def main():
    importer, scratch = sys.argv[1:3]
    extension = sys.argv[3] if len(sys.argv) > 3 else None
    contents = []
    for vfs in ("stock", "dax") if extension else ("stock",):
        case = Case(vfs, importer, scratch, extension)
        import_is_right(case)
        contents.append(case.content("whole.db"))
        killed_import_continues(case)
        second_run_changes_nothing(case)
        compressed_lists_are_read(case)
        foreign_files_are_left_alone(case)
        changed_list_is_followed(case)
    shutil.rmtree(scratch)
    claim(all(content == contents[0] for content in contents), "the content depends on the VFS")
    print(f"ok: {len(contents)} VFS, {len(QUESTIONS)} questions each")


if __name__ == "__main__":
    main()
