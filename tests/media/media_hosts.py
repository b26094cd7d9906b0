#!/usr/bin/python3
"""Media errors in hosts that have SIGBUS handlers of their own: Python, Node.

Catches: a host that dies of a media error that could have been an exception; a handler of the host
(Python's signal module, faulthandler, Node's) that is lost, or that swallows our faults because it was
installed later; a foreign SIGBUS that daxlite keeps for itself.

Usage: media_hosts.py signal|faulthandler|node EXTENSION BUILD_DIR
EXTENSION is the path without ".so". The media error is real: another process cuts the file under its
mapping. Every host is a process of its own, so that a death is a result. "node" uses Node as
tests/system/hosts.py installs it.
"""
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
from hosts import check, install_node

ROWS = 400


def make(path):
    """A database of which the end is table t's and the beginning all that others need."""
    db = sqlite3.connect(path)
    with db:
        db.execute("CREATE TABLE early(n INTEGER PRIMARY KEY, v TEXT)")
        db.execute("CREATE TABLE t(n INTEGER PRIMARY KEY, v TEXT)")
        db.executemany("INSERT INTO early VALUES(?, ?)", ((i + 1, "early") for i in range(20)))
        db.executemany("INSERT INTO t VALUES(?, ?)", ((i + 1, "x" * 3000) for i in range(ROWS)))
    db.close()
    check(os.path.getsize(path) > ROWS * 3000, "the database is small")


PYTHON_COMMON = r"""
import ctypes, mmap, os, signal, sqlite3, subprocess, sys, tempfile
extension, path = sys.argv[1:3]

def open_database():
    loader = sqlite3.connect(":memory:")
    loader.enable_load_extension(True)
    loader.load_extension(extension)
    loader.close()
    return sqlite3.connect("file:%s?vfs=dax" % path, uri=True)

def cut():
    subprocess.run([sys.executable, "-c", "import os, sys; os.truncate(sys.argv[1], 400000)", path],
                   check=True)

def expect_errors(db):
    try:
        db.execute("SELECT sum(length(v)) FROM t").fetchone()
        raise SystemExit("no exception")
    except sqlite3.OperationalError as e:
        assert "disk I/O error" in str(e), e
    assert db.execute("SELECT count(*), min(v) FROM early").fetchone() == (20, "early")
    rows = db.execute("SELECT kind, status FROM dax_errors").fetchall()
    assert ("truncated", "quarantined") in rows, rows

def foreign_fault():
    # A mapped file of our own, cut: the host's business.
    f = tempfile.TemporaryFile(dir=os.path.dirname(path))
    f.truncate(8192)
    m = mmap.mmap(f.fileno(), 8192)
    f.truncate(0)
    address = ctypes.addressof(ctypes.c_char.from_buffer(m))
    ctypes.string_at(address + 4096, 1)
"""

# The signal module's handler runs between two instructions of Python: right for kill(2).
PYTHON_SIGNAL = PYTHON_COMMON + r"""
calls = []
signal.signal(signal.SIGBUS, lambda number, frame: calls.append(number))
db = open_database()
assert db.execute("SELECT count(*) FROM t").fetchone()[0] == int(sys.argv[3])
db.close()
db = open_database()
cut()
expect_errors(db)
assert calls == [], calls
os.kill(os.getpid(), signal.SIGBUS)
assert calls == [signal.SIGBUS], calls
# Installed after ours: the next open puts ours in front of it, and it still gets its own.
signal.signal(signal.SIGBUS, lambda number, frame: calls.append("second"))
other = open_database()
assert other.execute("SELECT count(*) FROM early").fetchone()[0] == 20
expect_errors(other)
os.kill(os.getpid(), signal.SIGBUS)
assert calls == [signal.SIGBUS, "second"], calls
other.close()
db.close()
print("alive")
"""

# faulthandler writes the traceback, puts the old handler back, and the fault ends the process.
PYTHON_FAULTHANDLER = PYTHON_COMMON + r"""
import faulthandler
if int(sys.argv[3]):
    db = open_database()
    db.execute("SELECT count(*) FROM early").fetchone()
    faulthandler.enable()
    open_database().execute("SELECT 1 FROM early").fetchone() # puts ours in front
else:
    faulthandler.enable()
    db = open_database()
    db.execute("SELECT count(*) FROM early").fetchone()
cut()
expect_errors(db)
print("alive", flush=True)
if int(sys.argv[4]):
    foreign_fault()
"""


def host(script, directory, extension, args, *, name, status=0, err=None):
    path = os.path.join(directory, name + ".db")
    make(path)
    program = os.path.join(directory, name + ".py")
    with open(program, "w") as f:
        f.write(script)
    done = subprocess.run([sys.executable, program, extension, path] + [str(a) for a in args],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    check(done.returncode == status and done.stdout.strip() == "alive",
          "%s: status %d, not %d\n%s%s" % (name, done.returncode, status, done.stdout, done.stderr))
    check(err is None or err in done.stderr, "%s: no %r in\n%s" % (name, err, done.stderr))
    print("%s: ok" % name)


def test_signal(extension, directory, build):
    host(PYTHON_SIGNAL, directory, extension, [ROWS], name="signal-module")


def test_faulthandler(extension, directory, build):
    for later in (0, 1):
        where = "after" if later else "before"
        host(PYTHON_FAULTHANDLER, directory, extension, [later, 0], name="with-faulthandler-" + where)
        host(PYTHON_FAULTHANDLER, directory, extension, [later, 1], name="foreign-" + where,
             status=-signal.SIGBUS, err="Fatal Python error: Bus error")


NODE = r"""
const { DatabaseSync } = require('node:sqlite');
const { execFileSync } = require('node:child_process');
const assert = require('node:assert');
const [extension, path, kill] = process.argv.slice(2);
const loader = new DatabaseSync(':memory:', { allowExtension: true });
loader.loadExtension(extension);
loader.close();
let got = 0;
process.on('SIGBUS', () => { got++; });
const db = new DatabaseSync('file:' + path + '?vfs=dax');
assert.strictEqual(db.prepare('SELECT count(*) AS c FROM early').get().c, 20);
execFileSync('truncate', ['-s', '400000', path]);
assert.throws(() => db.prepare('SELECT sum(length(v)) FROM t').get(), /disk I\/O error/);
assert.strictEqual(db.prepare('SELECT count(*) AS c FROM early').get().c, 20);
const kinds = db.prepare('SELECT DISTINCT kind FROM dax_errors').all().map((r) => r.kind);
assert.deepStrictEqual(kinds, ['truncated']);
process.kill(process.pid, 'SIGBUS');
setTimeout(() => {
    assert.strictEqual(got, 1);
    db.close();
    console.log('alive');
}, 100);
"""


def test_node(extension, directory, build):
    node = install_node(os.path.join(build, "tests", "system"))
    path = os.path.join(directory, "node.db")
    make(path)
    program = os.path.join(directory, "host.js")
    with open(program, "w") as f:
        f.write(NODE)
    done = subprocess.run([node, "--no-warnings", program, extension, path], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True)
    check(done.returncode == 0 and done.stdout.strip() == "alive",
          "node: status %d\n%s%s" % (done.returncode, done.stdout, done.stderr))
    print("node: ok")


def main():
    kind, extension, build = sys.argv[1:4]
    test = {"signal": test_signal, "faulthandler": test_faulthandler, "node": test_node}[kind]
    parent = os.environ.get("DAX_TEST_DIR", "/dev/shm")
    directory = tempfile.mkdtemp(prefix="daxtest-media-host-%s-" % kind, dir=parent)
    print("host %s in %s, no randomness (DAX_TEST_SEED is not used)" % (kind, directory))
    try:
        test(extension, directory, build)
    finally:
        if not os.environ.get("DAX_TEST_KEEP"):
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
