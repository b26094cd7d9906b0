#!/usr/bin/python3
"""Prove that the media tests catch what they are for: each block of mutations.txt, a line of the engine or the
VFS that is wrong, must make the test that it names fail.

    mutations.py DIRECTORY MUTATIONS MATRIX [NAME...] [--long] [--vm COMMAND...]

DIRECTORY has what CMake has made of the blocks: mutated/NAME/daxlite.so or a program media_mutated_NAME.
MATRIX is media_matrix. Without names, all blocks that are not left to --long, which runs those.
COMMAND is vm.py with its programs.
"""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "crash"))
import mutate  # noqa: E402


def command_of(block, directory, matrix, vm):
    """The command, and what its output has where it fails because of what it found."""
    kind, *rest = block["run"].split()
    made = os.path.join(directory, "mutated", block["name"], "daxlite")
    os.environ["DAX_TEST_EXTENSION"] = made
    if kind == "matrix":
        return [matrix, rest[0], *(word.replace("+", " ") for word in rest[1:])], r"^FAILED: (.*)"
    if kind == "vm":
        return [*vm, "--extension", made + ".so", "scenarios", rest[0], "memmap", *rest[1:]], r"vm: FAILED: (.*)"
    return [os.path.join(directory, "media_mutated_" + block["name"])], r"^(.*:[FE]:.*)"


def why(text, pattern):
    """The first thing that the test complains of."""
    found = re.search(pattern, text, re.M)
    if not found:
        return None
    run = text[found.start():].split("\nFAILED: ")[0]
    inner = re.search(r"FAILED at \S*?([^/]+:\d+): .*\n  (.*)", run)
    return f"{inner[1]}: {inner[2]}" if inner else found[1]


def main():
    arguments = sys.argv[1:]
    vm = []
    if "--vm" in arguments:
        vm = arguments[arguments.index("--vm") + 1:]
        arguments = arguments[:arguments.index("--vm")]
    late = "--long" in arguments
    directory, path, matrix, *names = [a for a in arguments if a != "--long"]
    blocks = [b for b in mutate.load(path)
              if (b["name"] in names if names else (b.get("when") == "long") == late)]
    caught = 0
    for block in blocks:
        command, pattern = command_of(block, directory, matrix, vm)
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        if done.returncode == 77:
            print(f"{block['name']}: skipped: {done.stdout.splitlines()[-1]}", flush=True)
            caught += 1
            continue
        found = why(done.stdout, pattern) if done.returncode == 1 else None
        caught += bool(found)
        print(f"{block['name']}: {block['breaks']}: {found[:200] if found else 'NOT CAUGHT by ' + block['run']}", flush=True)
        if not found:
            print(f"status {done.returncode}\n" + "\n".join(done.stdout.splitlines()[-20:]))
    print(f"figure: mutations of what handles media errors, caught: {caught} of {len(blocks)}")
    sys.exit(caught != len(blocks))


main()
