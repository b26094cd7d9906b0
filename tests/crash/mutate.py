#!/usr/bin/python3
"""Make a mutated source file: mutate.py MUTATIONS NAME SOURCE_ROOT OUTPUT, or list them: mutate.py MUTATIONS.

A mutation whose line is not there exactly once is an error: the engine has changed, and the block in
mutations.txt has to follow it.
"""
import sys


def load(path):
    blocks, block = [], {}
    with open(path, encoding="utf-8") as f:
        for line in list(f) + [""]:
            line = line.rstrip("\n")
            if line.startswith("#"):
                continue
            if not line.strip():
                if block:
                    blocks.append(block)
                block = {}
                continue
            key, _, value = line.partition(":")
            block[key] = value.strip()
    for block in blocks:
        missing = {"name", "file", "from", "to", "breaks", "run"} - set(block)
        if missing:
            sys.exit(f"{path}: {block.get('name', block)}: no {', '.join(sorted(missing))}")
    return blocks


def mutate(block, root):
    with open(f"{root}/{block['file']}", encoding="utf-8") as f:
        lines = f.read().split("\n")
    found = [i for i, line in enumerate(lines) if line.strip() == block["from"]]
    if len(found) != 1:
        sys.exit(f"mutation {block['name']}: this line is {len(found)} times in {block['file']}, and "
                 f"has to be there once: {block['from']}")
    lines[found[0]] = block["to"]
    return f"#line 1 \"{block['file']} ({block['name']})\"\n" + "\n".join(lines)


def main():
    blocks = load(sys.argv[1])
    if len(sys.argv) == 2:
        print("\n".join(f"{b['name']} {b['file']}" for b in blocks))
        return
    block = next((b for b in blocks if b["name"] == sys.argv[2]), None)
    if not block:
        sys.exit(f"no mutation {sys.argv[2]} in {sys.argv[1]}")
    with open(sys.argv[4], "w", encoding="utf-8") as f:
        f.write(mutate(block, sys.argv[3]))


if __name__ == "__main__":
    main()
