"""The extension with jemalloc and without: what dax_status() says of the process's memory.

usage: preload.py EXTENSION LIBJEMALLOC

Would catch: an extension that brings jemalloc along (it cannot be loaded late) or does not find the one that
the process has; figures that are not there, or invented where there is no jemalloc.
"""

import json
import os
import subprocess
import sys
import tempfile

CHILD = """
import json, sqlite3, sys
loader = sqlite3.connect(":memory:")
loader.enable_load_extension(True)
loader.load_extension(sys.argv[1])
db = sqlite3.connect(f"file:{sys.argv[2]}?vfs=dax", uri=True)
db.execute("CREATE TABLE t(x)")
db.executemany("INSERT INTO t VALUES (?)", [("x" * 1000,)] * 2000)
db.commit()
memory = [json.loads(db.execute("SELECT dax_status()").fetchone()[0])["memory"]]
held = [bytearray(1000) for _ in range(50000)]
memory.append(json.loads(db.execute("SELECT dax_status()").fetchone()[0])["memory"])
print(json.dumps(memory))
"""


def memory_of(extension, preload):
    environment = dict(os.environ, PYTHONMALLOC="malloc")
    environment.pop("LD_PRELOAD", None)
    if preload:
        environment["LD_PRELOAD"] = preload
    with tempfile.TemporaryDirectory(prefix="daxlite-preload-",
                                     dir=os.environ.get("DAX_TEST_DIR", "/dev/shm")) as directory:
        result = subprocess.run(["/usr/bin/python3", "-c", CHILD, extension,
                                 os.path.join(directory, "app.db")],
                                env=environment, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"preload={preload}: {result.returncode}: {result.stderr}")
    return json.loads(result.stdout)


def expect(what, value):
    if not value:
        sys.exit(f"not so: {what}")


def main():
    extension, library = sys.argv[1:]
    for before in memory_of(extension, None):
        expect("libc without jemalloc", before["allocator"] == "libc")
        expect("no figures without jemalloc", before["allocated"] is None
               and before["resident"] is None)
        expect("no page cache from an extension", before["page_cache"] is None
               and before["heap"] is False)
    before, after = memory_of(extension, library)
    expect(f"jemalloc is found: {before}", before["allocator"].startswith("jemalloc 5"))
    grown = after["allocated"] - before["allocated"]
    expect(f"50 MB more are seen: {grown}", 50_000_000 < grown < 80_000_000)
    expect("resident", after["resident"] > after["allocated"] - 1_000_000)
    expect("no page cache from an extension, with jemalloc", after["page_cache"] is None
           and after["heap"] is False)
    print("libc without, jemalloc with LD_PRELOAD")


if __name__ == "__main__":
    main()
