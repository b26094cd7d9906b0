#!/usr/bin/python3
"""The extension works in programs that know nothing of it: shell, Python, Node.

Catches: an entry point under a name that the loader does not try; a symbol that only our own
programs have; a VFS that goes away with the connection that loaded it; an auto-extension that
breaks other connections of the process; a host with an SQLite of its own (Node) for which the
extension calls another one; URI names that a host passes on in its own way.

Usage: hosts.py shell|python|node|default EXTENSION BUILD_DIR
EXTENSION is the path without ".so". "python" and "default" load it into this very process, which is
Debian's Python. "node" installs the npm package node@24 below BUILD_DIR; where that cannot be done
the test fails.
"""
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import textwrap

ROWS = 500


def check(condition, text):
    if not condition:
        raise SystemExit("FAILED: " + str(text))


def run(args, **more):
    done = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)
    check(done.returncode == 0,
          "%s: status %d\n%s%s" % (args, done.returncode, done.stdout, done.stderr))
    return done.stdout


def stock_check(path, rows):
    """After the last close any SQLite reads the file."""
    db = sqlite3.connect("file:%s?vfs=unix" % path, uri=True)
    check(db.execute("PRAGMA integrity_check").fetchone() == ("ok",), "integrity_check of " + path)
    found = db.execute("SELECT count(*), sum(n), max(length(b)) FROM t").fetchone()
    check(found == (rows, rows * (rows + 1) // 2, 3000), "stock SQLite found %s" % (found,))
    db.close()


# --- the sqlite3 shell ----------------------------------------------------------------------------

def test_shell(extension, directory, build):
    path = os.path.join(directory, "shell.db")
    shell = shutil.which("sqlite3")
    check(shell, "there is no sqlite3 shell: apt-get install sqlite3")

    def script(text):
        return run([shell, "-bail", ":memory:"], input=textwrap.dedent(text))

    opening = "        .load %s\n        .open 'file:%s?vfs=dax'\n" % (extension, path)
    out = script(opening + """\
        CREATE TABLE t(n INTEGER PRIMARY KEY, b BLOB);
        WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < %d)
            INSERT INTO t SELECT i, zeroblob(3000) FROM s;
        SELECT dax_version() LIKE '_%%._%%._%%';
        SELECT json_extract(dax_status(), '$.mode');
        PRAGMA journal_mode;
        .vfsname
        """ % ROWS)
    lines = out.split("\n")
    check(lines[0] == "1" and lines[1] in ("pmem", "msync", "volatile"), out)
    check(lines[2] == "wal" and "dax" in lines[3], out)
    stock_check(path, ROWS)
    out = script(opening + """\
        SELECT count(*) FROM t;
        BEGIN; DELETE FROM t; ROLLBACK;
        SELECT count(*) FROM t;
        .backup main '%s'
        SELECT count(*) FROM dax_pages WHERE state = 'MAPPED';
        """ % os.path.join(directory, "copy.db"))
    lines = out.split("\n")
    check(lines[0] == lines[1] == str(ROWS) and int(lines[2]) >= 0, out)
    out = script(".load %s\nATTACH 'file:%s?vfs=dax' AS a;\nSELECT count(*) FROM a.t;\n"
                 % (extension, path))
    check(out == "%d\n" % ROWS, out)
    out = script(opening + "        .dump t\n")
    check(out.count("INSERT INTO t") == ROWS, "the dump has %d rows" % out.count("INSERT INTO t"))
    stock_check(path, ROWS)


# --- Python ---------------------------------------------------------------------------------------

def load(extension, entry=None):
    db = sqlite3.connect(":memory:")
    db.enable_load_extension(True)
    if entry:
        db.execute("SELECT load_extension(?, ?)", (extension, entry))
    else:
        db.load_extension(extension)
    db.close()


def test_python(extension, directory, build):
    path = os.path.join(directory, "python.db")
    load(extension)
    load(extension)  # a pool loads it for each of its connections

    db = sqlite3.connect("file:%s?vfs=dax" % path, uri=True)
    with db:
        db.execute("CREATE TABLE t(n INTEGER PRIMARY KEY, b BLOB)")
        db.executemany("INSERT INTO t VALUES(?, ?)", ((i + 1, bytes(3000)) for i in range(ROWS)))
    check(db.execute("SELECT count(*) FROM t").fetchone() == (ROWS,), "rows")
    status = json.loads(db.execute("SELECT dax_status()").fetchone()[0])
    check(status["mode"] in ("pmem", "msync", "volatile") and status["why"], status)
    check(status["active"] is True, status)
    check(db.execute("SELECT dax_version()").fetchone()[0].count(".") == 2, "dax_version()")

    other = sqlite3.connect("file:%s?vfs=dax" % path, uri=True, timeout=0)
    reader = other.execute("SELECT n FROM t ORDER BY n")
    check(reader.fetchone() == (1,), "first row")
    with db:
        db.execute("DELETE FROM t")
    check(len(reader.fetchall()) == ROWS - 1, "an open query lost its snapshot")
    check(other.execute("SELECT count(*) FROM t").fetchone() == (0,), "the next query is a new one")
    with db:
        db.executemany("INSERT INTO t VALUES(?, ?)", ((i + 1, bytes(3000)) for i in range(ROWS)))
    if hasattr(other, "blobopen"):
        with other.blobopen("t", "b", 7) as blob:
            check(len(blob.read()) == 3000, "incremental blob I/O")

    plain = sqlite3.connect(":memory:")  # connections of other VFSs are as they were
    plain.execute("CREATE TABLE x(y)")
    mode = plain.execute("PRAGMA journal_mode").fetchone()
    check(mode == ("memory",), "journal_mode of :memory: is %s" % (mode,))
    copy = sqlite3.connect(os.path.join(directory, "copy.db"))
    db.backup(copy)
    check(copy.execute("SELECT count(*) FROM t").fetchone() == (ROWS,), "backup")
    copy.close()
    plain.close()
    other.close()
    db.close()
    stock_check(path, ROWS)
    for suffix in ("-journal", "-wal", "-shm"):
        check(not os.path.exists(path + suffix), suffix + " is left behind")

    db = sqlite3.connect("file:%s?vfs=dax" % path, uri=True)
    check(db.execute("SELECT sum(n) FROM t").fetchone() == (ROWS * (ROWS + 1) // 2,), "reopened")
    db.close()
    try:
        sqlite3.connect("file:%s?vfs=dax&dax_nonsense=1" % path, uri=True).execute("SELECT 1")
        check(False, "an unknown parameter is no error")
    except sqlite3.Error:
        pass
    stock_check(path, ROWS)


def test_default(extension, directory, build):
    """Hosts without URI names (better-sqlite3): the other entry point makes dax the default VFS."""
    path = os.path.join(directory, "default.db")
    load(extension, "sqlite3_daxlitedefault_init")
    load(extension, "sqlite3_daxlitedefault_init")  # must not wrap itself
    db = sqlite3.connect(path)
    with db:
        db.execute("CREATE TABLE t(n INTEGER PRIMARY KEY, b BLOB)")
        db.executemany("INSERT INTO t VALUES(?, ?)", ((i + 1, bytes(3000)) for i in range(ROWS)))
        db.execute("CREATE TEMP TABLE tt AS SELECT n FROM t")
    status = json.loads(db.execute("SELECT dax_status()").fetchone()[0])
    check(status["path"] == os.path.realpath(path), status)
    check(db.execute("PRAGMA journal_mode").fetchone() == ("wal",), "journal_mode")
    memory = sqlite3.connect(":memory:")
    memory.execute("CREATE TABLE x(y)")
    try:
        memory.execute("SELECT dax_status()")
        check(False, ":memory: goes through dax")
    except sqlite3.OperationalError:
        pass
    anonymous = sqlite3.connect("")  # a temporary file
    anonymous.execute("CREATE TABLE x(y)")
    anonymous.execute("INSERT INTO x VALUES(zeroblob(5000000))")
    anonymous.close()
    memory.close()
    db.close()
    stock_check(path, ROWS)


# --- Node -----------------------------------------------------------------------------------------

NODE_SCRIPT = r"""
const { DatabaseSync } = require('node:sqlite');
const assert = require('node:assert');
const [extension, path, rows] = process.argv.slice(2);
const loader = new DatabaseSync(':memory:', { allowExtension: true });
loader.loadExtension(extension);
loader.close();
const name = 'file:' + path + '?vfs=dax';
let db = new DatabaseSync(name);
db.exec('CREATE TABLE t(n INTEGER PRIMARY KEY, b BLOB)');
const insert = db.prepare('INSERT INTO t VALUES(?, ?)');
db.exec('BEGIN');
for (let i = 1; i <= Number(rows); i++)
    insert.run(i, new Uint8Array(3000));
db.exec('COMMIT');
const version = db.prepare('SELECT dax_version() AS v, sqlite_version() AS s').get();
assert.match(version.v, /^\d+\.\d+\.\d+$/);
const status = JSON.parse(db.prepare('SELECT dax_status() AS j').get().j);
assert.ok(['pmem', 'msync', 'volatile'].includes(status.mode), JSON.stringify(status));
assert.strictEqual(status.path, path);
// SQLite names the column after the value where a VFS answers.
assert.deepStrictEqual(Object.values(db.prepare('PRAGMA journal_mode').get()), ['wal']);
const other = new DatabaseSync(name);
const snapshot = other.prepare('SELECT n FROM t ORDER BY n').iterate();
assert.strictEqual(snapshot.next().value.n, 1);
db.exec('BEGIN; DELETE FROM t WHERE n > 3; ROLLBACK');
db.exec('UPDATE t SET b = randomblob(3000) WHERE n % 2');
assert.strictEqual([...snapshot].length, Number(rows) - 1);
assert.strictEqual(other.prepare('SELECT count(*) AS c FROM t').get().c, Number(rows));
other.exec('BEGIN; SELECT * FROM t');
db.exec('UPDATE t SET b = randomblob(3000) WHERE n = 1');
assert.throws(() => other.exec('DELETE FROM t'), /locked/);
other.exec('ROLLBACK');
const checkpoint = JSON.parse(db.prepare("SELECT dax_checkpoint('truncate') AS j").get().j);
assert.strictEqual(checkpoint.busy, false);
assert.strictEqual(db.prepare('PRAGMA integrity_check').get().integrity_check, 'ok');
other.close();
db.close();
db = new DatabaseSync(name);
const sum = Number(rows) * (Number(rows) + 1) / 2;
assert.strictEqual(db.prepare('SELECT sum(n) AS s FROM t').get().s, sum);
db.close();
console.log('node ' + process.version + ', SQLite ' + version.s + ', ' + status.mode);
"""


def install_node(build):
    """Node 24 from the npm package node, once per build tree. Debian's npm will do."""
    place = os.path.join(build, "node24")
    node = os.path.join(place, "node_modules", "node", "bin", "node")
    if not os.path.exists(node):
        npm = shutil.which("npm")
        if not npm:
            check(os.getuid() == 0, "there is no npm, and only root can apt-get install it")
            run(["apt-get", "install", "-y", "--no-install-recommends", "npm"],
                env=dict(os.environ, DEBIAN_FRONTEND="noninteractive"))
            npm = shutil.which("npm")
            check(npm, "apt-get install npm has left no npm")
        os.makedirs(place, exist_ok=True)
        run([npm, "install", "--no-audit", "--no-fund", "--no-save", "--prefix", place, "node@24"])
    version = run([node, "--version"]).strip()
    check(version.startswith("v24."), "node is " + version)
    return node


def test_node(extension, directory, build):
    node = install_node(build)
    path = os.path.join(directory, "node.db")
    script = os.path.join(directory, "host.js")
    with open(script, "w") as f:
        f.write(NODE_SCRIPT)
    out = run([node, "--no-warnings", script, extension, path, str(ROWS)])
    print(out.strip())
    stock_check(path, ROWS)


def main():
    kind, extension, build = sys.argv[1:4]
    test = {"shell": test_shell, "python": test_python, "node": test_node,
            "default": test_default}[kind]
    parent = os.environ.get("DAX_TEST_DIR", "/dev/shm")
    directory = tempfile.mkdtemp(prefix="daxtest-host-%s-" % kind, dir=parent)
    print("host %s in %s, no randomness (DAX_TEST_SEED is not used)" % (kind, directory))
    try:
        test(extension, directory, build)
    finally:
        if not os.environ.get("DAX_TEST_KEEP"):
            shutil.rmtree(directory, ignore_errors=True)
    print("host %s: ok" % kind)


if __name__ == "__main__":
    main()
