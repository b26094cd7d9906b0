#!/usr/bin/python3
"""Bring a database of Debian's package index into step with the lists that apt has fetched.

The tables are those of schema.sql. Packages are stored in transactions of --batch packages, each
with all of its dependencies and its full-text entry, so the database is consistent after every one
of them. A run that was interrupted is continued by the next; a list that has changed since is
imported again, and packages that no list offers any more are removed; when nothing has changed,
nothing is written.

Only the standard library is used, and only /usr/bin/python3 is relied upon: many other Pythons
cannot load SQLite extensions.
"""

import argparse
import glob
import hashlib
import json
import os
import re
import sqlite3
import sys
import time
import urllib.parse

sys.dont_write_bytecode = True  # no __pycache__ next to the sources
import control  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
APPLICATION_ID = 0x70616B67  # "pakg": --fresh deletes no database that does not carry it
DEPENDENCY_KINDS = (
    "Depends", "Pre-Depends", "Recommends", "Suggests", "Enhances", "Breaks", "Conflicts",
    "Replaces",
)
LIST_NAME = re.compile(
    r"(?P<site>.*)_dists_(?P<suite>.*)_(?P<component>[^_]+)"
    r"_binary-(?P<architecture>[^_]+)_Packages")
MALFORMED_SHOWN = 5


class ImportFailure(Exception):
    """What is wrong and what to do, for the user."""


class Progress:
    """One line that changes on a terminal, a plain line for every tenth part otherwise."""

    def __init__(self, quiet):
        self.quiet = quiet
        self.tty = sys.stderr.isatty()
        self.started = time.monotonic()
        self.last_part = -1
        self.last_shown = 0.0

    def show(self, part, text):
        if self.quiet:
            return
        now = time.monotonic()
        seconds = now - self.started
        if self.tty:
            if now - self.last_shown < 0.1 and part < 1:
                return
            self.last_shown = now
            bar = "#" * int(part * 24)
            line = f"\r  [{bar:<24}] {part * 100:3.0f} %  {text}  {seconds:.0f} s"
            print(f"{line}\033[K", end="", file=sys.stderr, flush=True)
        elif int(part * 10) > self.last_part:
            self.last_part = int(part * 10)
            print(f"  {part * 100:3.0f} %  {text}  {seconds:.1f} s", file=sys.stderr, flush=True)

    def say(self, text):
        if self.quiet:
            return
        end_of_line = "\r\033[K" if self.tty else ""
        print(f"{end_of_line}  {text}", file=sys.stderr, flush=True)


class PackageList:
    """One list in memory, with what its file name says about where it comes from."""

    def __init__(self, path):
        self.path = path
        self.content = control.read_list(path)
        self.sha256 = hashlib.sha256(self.content).hexdigest()
        self.file = re.sub(r"\.(gz|xz|lz4|zst|bz2)$", "", os.path.basename(path))
        match = LIST_NAME.match(self.file)
        origin = match.groupdict() if match else {}
        self.site = urllib.parse.unquote(origin.get("site", "").replace("_", "/"))
        self.suite = urllib.parse.unquote(origin.get("suite", "").replace("_", "/"))
        self.component = origin.get("component", "")
        self.architecture = origin.get("architecture", "")
        self.id = None


def find_lists(directory):
    """Newest representation of each Packages list in apt's directory, and of each translation."""
    def newest(pattern):
        found = {}
        for path in glob.glob(os.path.join(glob.escape(directory), pattern)):
            stem = re.sub(r"\.(gz|xz|lz4|zst|bz2)$", "", path)
            known = found.get(stem)
            if known is None or os.path.getmtime(path) > os.path.getmtime(known):
                found[stem] = path
        return [found[stem] for stem in sorted(found)]
    packages = newest("*_Packages") + newest("*_Packages.*")
    return packages, newest("*_Translation-en") + newest("*_Translation-en.*")


def read_translations(paths):
    """Long descriptions by Description-md5: lists carry only the first line where these exist."""
    texts = {}
    for path in paths:
        for _, fields in control.stanzas(control.read_list(path)):
            if isinstance(fields, control.Malformed):
                continue
            text = fields.get("description-en")
            md5 = fields.get("description-md5")
            if text and md5:
                texts[md5] = control.split_description(text)[1]
    return texts


# --- the database -------------------------------------------------------------------------------

def load_extension(path):
    """Make the VFS known to this process: it must be there before the open that names it."""
    loader = sqlite3.connect(":memory:")
    if not hasattr(loader, "enable_load_extension"):
        raise ImportFailure(f"{sys.executable} was built without SQLite extension loading: "
                            "run this with /usr/bin/python3")
    loader.enable_load_extension(True)
    try:
        loader.load_extension(path)
    except sqlite3.OperationalError as error:
        raise ImportFailure(f"cannot load the extension {path}: {error}") from error
    finally:
        loader.close()


def connect(database, vfs):
    # As bytes, since a path need not be text; "//" would begin a host name.
    path = urllib.parse.quote(b"/" + os.fsencode(os.path.abspath(database)).lstrip(b"/"))
    query = f"?vfs={vfs}" if vfs != "stock" else ""
    try:
        db = sqlite3.connect(f"file:{path}{query}", uri=True, isolation_level=None)
        db.execute("PRAGMA schema_version").fetchone()
    except sqlite3.Error as error:
        hint = ": close the program that has it open" if "locked" in str(error) else ""
        raise ImportFailure(f"cannot open {database} with VFS {vfs}: {error}{hint}") from error
    return db


def remove_database(database, vfs):
    """--fresh: delete it and what belongs to it, if it is ours and nobody has it open."""
    if os.path.exists(database) and os.path.getsize(database) > 0:
        db = connect(database, vfs)
        try:
            if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                raise ImportFailure(f"{database} was not made by this importer: it is not deleted; "
                                    "name another file")
            db.execute("BEGIN EXCLUSIVE")
            db.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise ImportFailure(f"{database} is not deleted: {error}") from error
        finally:
            db.close()
    for suffix in ("", "-dax", "-journal", "-wal", "-shm"):
        try:
            os.unlink(database + suffix)
        except FileNotFoundError:
            pass


def prepare(db, options):
    db.execute("PRAGMA foreign_keys = ON")
    if options.journal_mode:
        db.execute(f"PRAGMA journal_mode = {options.journal_mode}").fetchone()
    if options.synchronous:
        db.execute(f"PRAGMA synchronous = {options.synchronous}")
    tables = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    application_id = db.execute("PRAGMA application_id").fetchone()[0]
    if tables and application_id != APPLICATION_ID:
        raise ImportFailure(f"{options.database} holds something else: name another file")
    with open(os.path.join(HERE, "schema.sql"), encoding="utf-8") as stream:
        schema = stream.read()
    if not tables:
        db.executescript(f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID};\n"
                         f"{schema}\nCOMMIT;")
    db.execute("BEGIN IMMEDIATE")
    db.executemany("INSERT OR IGNORE INTO dependency_kind(name) VALUES (?)",
                   [(kind,) for kind in DEPENDENCY_KINDS])
    db.execute("COMMIT")


class Lookup:
    """Ids of a small table's rows, kept in memory; new rows are inserted where they first occur."""

    def __init__(self, db, table, columns=("name",)):
        names = ", ".join(columns)
        self.db = db
        self.insert = f"INSERT INTO {table}({names}) VALUES ({', '.join('?' * len(columns))})"
        self.ids = {row[1:]: row[0] for row in db.execute(f"SELECT id, {names} FROM {table}")}

    def id(self, *key):
        known = self.ids.get(key)
        if known is None:
            known = self.db.execute(self.insert, key).lastrowid
            self.ids[key] = known
        return known


def number_of(fields, field):
    value = fields.get(field)
    if value is None:
        return None
    if not value.isascii() or not value.isdigit():
        raise ValueError(f"{field.title()} is not a number: {value!r}")
    return int(value)


class Writer:
    """Stores packages, a batch per transaction."""

    PACKAGE = ("INSERT INTO package(name_id, version, architecture, source, maintainer_id,"
               " section_id, priority_id, essential, multi_arch, installed_kib, download_bytes,"
               " filename, sha256, homepage, summary, description)"
               " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)")

    def __init__(self, db, batch, translations):
        self.db = db
        self.batch = batch
        self.translations = translations
        self.names = Lookup(db, "name")
        self.maintainers = Lookup(db, "maintainer", ("name", "address"))
        self.sections = Lookup(db, "section")
        self.priorities = Lookup(db, "priority")
        self.tags = Lookup(db, "tag")
        self.kinds = {name.lower(): kind_id for kind_id, name in
                      db.execute("SELECT id, name FROM dependency_kind")}
        self.packages = {row[1:]: row[0] for row in
                         db.execute("SELECT id, name_id, version, architecture FROM package")}
        self.offered = set()
        self.clear()
        self.stored = 0
        self.transactions = 0

    def clear(self):
        self.availability = []
        self.dependencies = []
        self.provided = []
        self.package_tags = []

    def begin_list(self, package_list):
        self.list = package_list
        self.offered = {row[0] for row in self.db.execute(
            "SELECT package_id FROM availability WHERE list_id = ?", (package_list.id,))}
        self.db.execute("BEGIN IMMEDIATE")
        self.pending = 0

    def add(self, fields):
        """Store one stanza; False if this list's entry is there already. ValueError: malformed."""
        relations = [(self.kinds[field], control.relations(fields[field]))
                     for field in self.kinds if field in fields]
        provides = control.relations(fields["provides"]) if "provides" in fields else []
        values = self.package_values(fields)
        package_id = self.packages.get(values[:3])
        if package_id in self.offered:
            return False
        if package_id is None:
            package_id = self.db.execute(self.PACKAGE, values).lastrowid
            self.packages[values[:3]] = package_id
            self.add_relations(package_id, relations, provides)
            for tag in dict.fromkeys(re.split(r"[\s,]+", fields.get("tag", ""))):
                if tag:
                    self.package_tags.append((package_id, self.tags.id(tag)))
        else:
            self.db.execute("UPDATE package SET summary = ?1, description = ?2 WHERE id = ?3"
                            " AND (summary, description) IS NOT (?1, ?2)",
                            (values[-2], values[-1], package_id))
        self.offered.add(package_id)
        self.availability.append((self.list.id, package_id))
        self.pending += 1
        self.stored += 1
        return True

    def package_values(self, fields):
        for field in ("package", "version", "architecture"):
            if not fields.get(field):
                raise ValueError(f"there is no {field.title()} field")
        summary, text = control.split_description(fields.get("description", ""))
        if text is None:
            text = self.translations.get(fields.get("description-md5"))
        sha256 = fields.get("sha256")
        maintainer, address = control.split_maintainer(fields.get("maintainer", ""))
        return (
            self.names.id(fields["package"]),
            fields["version"],
            fields["architecture"],
            fields.get("source", fields["package"]).partition(" ")[0],
            self.maintainers.id(maintainer, address or ""),
            self.sections.id(fields.get("section", "")),
            self.priorities.id(fields.get("priority", "")),
            int(fields.get("essential", "no") == "yes"),
            fields.get("multi-arch"),
            number_of(fields, "installed-size"),
            number_of(fields, "size"),
            fields.get("filename"),
            bytes.fromhex(sha256) if sha256 else None,
            fields.get("homepage"),
            summary,
            text,
        )

    def add_relations(self, package_id, relations, provides):
        for kind_id, groups in relations:
            for group_no, targets in enumerate(groups, 1):
                for alternative, target in enumerate(targets, 1):
                    self.dependencies.append((
                        package_id, kind_id, group_no, alternative, self.names.id(target.name),
                        target.architecture, target.relation, target.version))
        for position, targets in enumerate(provides, 1):
            self.provided.append((package_id, position, self.names.id(targets[0].name),
                                  targets[0].version))

    def flush(self):
        self.db.executemany("INSERT INTO availability VALUES (?,?)", self.availability)
        self.db.executemany("INSERT INTO dependency VALUES (?,?,?,?,?,?,?,?)", self.dependencies)
        self.db.executemany("INSERT INTO provided VALUES (?,?,?,?)", self.provided)
        self.db.executemany("INSERT INTO package_tag VALUES (?,?)", self.package_tags)
        self.clear()

    def commit_batch(self):
        """Commit if the batch is full, and begin the next."""
        if self.pending < self.batch:
            return False
        self.flush()
        self.db.execute("COMMIT")
        self.transactions += 1
        self.db.execute("BEGIN IMMEDIATE")
        self.pending = 0
        return True

    def end_list(self):
        self.flush()
        self.db.execute("UPDATE list SET complete = 1 WHERE id = ?", (self.list.id,))
        self.db.execute("COMMIT")
        self.transactions += 1


# --- the import ---------------------------------------------------------------------------------

def lists_to_import(db, lists, progress):
    """Enter the lists, take out what is gone or changed; return those that are not complete."""
    pending = []
    db.execute("BEGIN IMMEDIATE")
    known = {row[0]: row[1:] for row in db.execute("SELECT file, id, sha256, complete FROM list")}
    for package_list in lists:
        list_id, sha256, complete = known.pop(package_list.file, (None, None, 0))
        values = (package_list.site, package_list.suite, package_list.component,
                  package_list.architecture, len(package_list.content), package_list.sha256)
        if list_id is None:
            list_id = db.execute(
                "INSERT INTO list(file, site, suite, component, architecture, bytes, sha256)"
                " VALUES (?,?,?,?,?,?,?)", (package_list.file,) + values).lastrowid
        elif sha256 != package_list.sha256:
            progress.say(f"{package_list.file} has changed: it is imported again")
            db.execute("DELETE FROM availability WHERE list_id = ?", (list_id,))
            db.execute("UPDATE list SET (site, suite, component, architecture, bytes, sha256,"
                       " complete) = (?,?,?,?,?,?,0) WHERE id = ?", values + (list_id,))
            complete = 0
        package_list.id = list_id
        if not complete:
            pending.append(package_list)
    for file, (list_id, _, _) in known.items():
        progress.say(f"{file} is gone: its packages are removed")
        db.execute("DELETE FROM list WHERE id = ?", (list_id,))
    db.execute("COMMIT")
    return pending


def import_lists(db, pending, translations, options, progress):
    """Store every package of the lists; returns how many, malformed stanzas, transactions."""
    writer = Writer(db, options.batch, translations)
    if writer.packages:
        progress.say(f"{len(writer.packages)} packages are there already: continuing")
    what = "more packages committed" if writer.packages else "packages committed"
    malformed = 0
    done = 0
    total = sum(len(package_list.content) for package_list in pending) or 1
    for package_list in pending:
        writer.begin_list(package_list)
        for offset, fields in control.stanzas(package_list.content):
            try:
                if isinstance(fields, control.Malformed):
                    raise ValueError(f"line {fields.line}: {fields.reason}")
                writer.add(fields)
            except ValueError as error:
                malformed += 1
                if malformed <= MALFORMED_SHOWN:
                    name = isinstance(fields, dict) and fields.get("package")
                    where = f"package {name}: " if name else ""
                    progress.say(f"skipped in {package_list.file}: {where}{error}")
            if writer.commit_batch():
                progress.show((done + offset) / total, f"{writer.stored} {what}")
                if options.stop_after and writer.transactions >= options.stop_after:
                    os.kill(os.getpid(), 9)
        writer.end_list()
        done += len(package_list.content)
        progress.show(done / total, f"{writer.stored} {what}")
    if progress.tty and not progress.quiet:
        print(file=sys.stderr)
    return writer.stored, malformed, writer.transactions


def remove_orphans(db):
    """Delete the packages that no list offers; returns how many."""
    orphans = db.execute("SELECT package.id FROM package WHERE NOT EXISTS"
                         " (SELECT 1 FROM availability WHERE package_id = package.id)").fetchall()
    if orphans:
        db.execute("BEGIN IMMEDIATE")
        db.executemany("DELETE FROM package WHERE id = ?", orphans)
        db.execute("COMMIT")
    return len(orphans)


def build_indexes(db, progress):
    """Each missing index in a transaction of its own; returns how many were built."""
    built = 0
    known = {row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'index'")}
    with open(os.path.join(HERE, "indexes.sql"), encoding="utf-8") as stream:
        for statement in stream:
            match = re.match(r"CREATE INDEX IF NOT EXISTS (\w+)", statement)
            if match and match[1] not in known:
                progress.say(f"index {match[1]}")
                db.execute(statement)
                built += 1
    if built:
        db.execute("ANALYZE")
    return built


def check(db):
    """Foreign keys and the full-text index agree with the tables, or ImportFailure."""
    violations = db.execute("PRAGMA foreign_key_check").fetchall()
    if violations:
        raise ImportFailure(f"{len(violations)} rows violate a foreign key, first: {violations[0]}")
    db.execute("INSERT INTO package_fts(package_fts, rank) VALUES ('integrity-check', 1)")
    answer = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if answer != "ok":
        raise ImportFailure(f"integrity_check: {answer}")


def engine_counters(db):
    """How the engine stored what this process committed, in one line."""
    status = json.loads(db.execute("SELECT dax_status()").fetchone()[0])
    counters = status["counters"]
    return (f"{status['mode']} mode: {counters['commits']} commits,"
            f" {counters['log_bytes']:,} bytes of log;"
            f" {counters['pages_direct']:,} pages stored in place without log,"
            f" {counters['pages_scratch']:,} through scratch")


def run(options):
    progress = Progress(options.quiet)
    paths, translation_paths = options.lists, []
    if not paths:
        paths, translation_paths = find_lists(options.lists_directory)
    if not paths:
        raise ImportFailure(f"no package list in {options.lists_directory}:"
                            " run `apt-get update` as root")
    if options.vfs != "stock":
        load_extension(options.extension)
    if options.fresh:
        remove_database(options.database, options.vfs)
    lists = [PackageList(path) for path in paths]
    translations = read_translations(translation_paths)
    started = time.monotonic()
    db = connect(options.database, options.vfs)
    try:
        prepare(db, options)
        pending = lists_to_import(db, lists, progress)
        stored = malformed = transactions = 0
        if pending:
            stored, malformed, transactions = import_lists(db, pending, translations, options,
                                                           progress)
        built = build_indexes(db, progress)
        removed = remove_orphans(db)
        if options.check:
            check(db)
        packages, dependencies = db.execute(
            "SELECT (SELECT count(*) FROM package), (SELECT count(*) FROM dependency)").fetchone()
        if options.vfs == "dax" and (stored or built):
            progress.say(engine_counters(db))
    finally:
        db.close()
    seconds = time.monotonic() - started
    if malformed:
        progress.say(f"{malformed} malformed stanzas were skipped")
    if stored or removed or built:
        progress.say(f"{packages} packages and {dependencies} dependencies in {seconds:.1f} s"
                     f" ({stored} entries in {transactions} transactions,"
                     f" {removed} packages removed)")
    else:
        progress.say(f"up to date: {packages} packages and {dependencies} dependencies")
    if options.json:
        print(json.dumps({
            "vfs": options.vfs, "seconds": round(seconds, 3), "packages": packages,
            "dependencies": dependencies, "stored": stored, "removed": removed,
            "malformed": malformed, "transactions": transactions}))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("database", help="the database file")
    parser.add_argument("lists", nargs="*",
                        help="Packages lists, plain or compressed (default: apt's)")
    parser.add_argument("--vfs", default="dax",
                        help="SQLite VFS, or `stock` for SQLite's own (dax)")
    parser.add_argument("--extension", default=os.path.join(HERE, "..", "..", "build", "daxlite"),
                        help="path of the extension, without .so (build/daxlite)")
    parser.add_argument("--lists-directory", default="/var/lib/apt/lists",
                        help="where apt keeps its lists (/var/lib/apt/lists)")
    parser.add_argument("--fresh", action="store_true", help="delete the database first")
    parser.add_argument("--batch", type=int, default=2000, help="packages per transaction (2000)")
    parser.add_argument("--journal-mode", choices=["delete", "wal", "memory", "off"])
    parser.add_argument("--synchronous", choices=["off", "normal", "full", "extra"])
    parser.add_argument("--check", action="store_true", help="check the finished database")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="print one line of JSON at the end")
    parser.add_argument("--stop-after", type=int, metavar="N",
                        help="kill -9 this process after N transactions (a test of continuing)")
    options = parser.parse_args()
    if options.batch < 1:
        parser.error("--batch must be at least 1")
    return options


def main():
    options = parse_arguments()
    try:
        run(options)
    except (ImportFailure, OSError, sqlite3.Error) as error:
        print(f"import.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nimport.py: interrupted. What was committed stays in {options.database}; "
              "run it again to continue.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
