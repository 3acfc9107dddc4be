#!/usr/bin/env python3
"""Counts how the top-level modules of crates depend on one another.

    tools/arrows.py [FOLDER...]      (default: check/src src)

A module is a file or folder directly under a FOLDER that holds a crate's sources. An arrow A -> B says that a file of A
names something of B, in a `use` or in a path; tests and comments do not count. Arrows between the crates named count too.
A module stands one floor above the highest of those that it names. A circle is a set of modules that all reach one
another; its modules share a floor. Exit status 1 if there is a circle.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOTS = {"lib.rs", "main.rs"}


def source(path):
    """A file's text without comments, strings and its tests."""
    text = re.sub(r"""//[^\n]*|r#".*?"#|'"'|"(?:\\.|[^"\\])*\"""", "", path.read_text(), flags=re.DOTALL)
    return re.split(r"#\[cfg\(test\)\]\s*mod \w+ \{", text)[0]


def expanded(tree):
    """The paths of a `use` tree such as `a::{b, c::{self, d}}`."""
    head, brace, rest = tree.partition("{")
    if not brace:
        return [tree.strip()]
    parts, depth, start = [], 0, 0
    body = rest[: rest.rindex("}")]
    for at, char in enumerate(body + ","):
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            parts.append(body[start:at])
            start = at + 1
    return [head.strip() + path for part in parts if part.strip() for path in expanded(part)]


def paths(text):
    """Every path that a text names, those of its `use` lines written out."""
    uses = re.findall(r"\buse ([^;]+);", text)
    found = [path for tree in uses for path in expanded(" ".join(tree.split()))]
    return found + re.findall(r"(?:\w+::)+\w+", re.sub(r"\buse [^;]+;", "", text))


class Crate:
    def __init__(self, folder):
        self.folder = Path(folder)
        manifest = tomllib.loads((self.folder.parent / "Cargo.toml").read_text())
        self.name = manifest["package"]["name"].replace("-", "_")
        self.modules = {path.stem for path in self.folder.iterdir() if path.name not in ROOTS}
        self.exports = {}  # names at the crate's root, with the module that they come from
        for root in ROOTS:
            if (self.folder / root).exists():
                for path in paths(source(self.folder / root)):
                    parts = path.removeprefix("crate::").split("::")
                    if parts[0] in self.modules and len(parts) > 1:
                        self.exports[parts[-1].split(" as ")[-1]] = parts[0]

    def module(self, parts):
        """The module that a path below the crate's root leads to, if any."""
        name = parts[0] if parts else ""
        return name if name in self.modules else self.exports.get(name)

    def files(self):
        """Each file with its path of modules, but those of tests."""
        files = []
        for path in sorted(self.folder.rglob("*.rs")):
            parts = list(path.relative_to(self.folder).with_suffix("").parts)
            if path.name in ROOTS or parts[-1] == "mod":
                parts.pop()
            files.append((path, parts))
        tests = [
            parts + [name]
            for path, parts in files
            for name in re.findall(r"#\[cfg\(test\)\]\s*mod (\w+);", path.read_text())
        ]
        for path, parts in files:
            if parts and not any(parts[: len(test)] == test for test in tests):
                yield path, parts


def arrows(crates):
    by_name = {crate.name: crate for crate in crates}
    found = set()
    for crate in crates:
        for path, module in crate.files():
            for name in paths(source(path)):
                parts, other = name.split("::"), crate
                if parts[0] == "super":
                    levels = next((i for i, part in enumerate(parts) if part != "super"), len(parts))
                    parts = (module[:-levels] if levels <= len(module) else []) + parts[levels:]
                elif parts[0] == "crate":
                    parts = parts[1:]
                elif parts[0] in by_name:
                    parts, other = parts[1:], by_name[parts[0]]
                else:
                    continue
                target = other.module(parts)
                start = (crate.name, module[0])
                if target and start != (other.name, target):
                    found.add((start, (other.name, target)))
    return found


def closure(nodes, edges):
    """For each module all that it reaches."""
    reach = {node: {to for start, to in edges if start == node} for node in nodes}
    for middle in nodes:
        for node in nodes:
            if middle in reach[node]:
                reach[node] |= reach[middle]
    return reach


def main():
    crates = [Crate(folder) for folder in sys.argv[1:] or ["check/src", "src"]]
    nodes = sorted((crate.name, module) for crate in crates for module in crate.modules)
    edges = arrows(crates)
    reach = closure(nodes, edges)
    circle_of = {node: frozenset({node} | {to for to in reach[node] if node in reach[to]}) for node in nodes}
    circles = {circle for circle in circle_of.values() if len(circle) > 1}

    floors = {}

    def floor(circle):
        if circle not in floors:
            below = {circle_of[to] for start, to in edges if start in circle and to not in circle}
            floors[circle] = 1 + max(map(floor, below), default=0)
        return floors[circle]

    for node in sorted(nodes, key=lambda node: (-floor(circle_of[node]), node)):
        targets = sorted(f"{to[1]}" if to[0] == node[0] else "::".join(to) for start, to in edges if start == node)
        print(f"{floor(circle_of[node]):>2}  {'::'.join(node):<32} {' '.join(targets)}")
    for crate in crates:
        inside = sum(start[0] == to[0] == crate.name for start, to in edges)
        print(f"{crate.name}: {len(crate.modules)} modules, {inside} arrows")
    if len(crates) > 1:
        print(f"between crates: {sum(start[0] != to[0] for start, to in edges)} arrows")
    print(f"{len(nodes)} modules, {len(edges)} arrows, {max(floors.values())} floors, {len(circles)} circles")
    for circle in circles:
        print("circle: " + ", ".join("::".join(node) for node in sorted(circle)))
    return 1 if circles else 0


sys.exit(main())
