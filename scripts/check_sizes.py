#!/usr/bin/env python3
"""Checks the size budget of docs/style: files at most 400 lines at the 95th percentile and 600 at all; functions at most
45 lines at the 95th percentile. Prints the largest."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ("core", "sdk", "plugins", "tests", "examples")
FILE_PERCENTILE, FILE_CAP, FUNCTION_PERCENTILE = 400, 600, 45
# Path -> why it may be longer than the cap.
EXCEPTIONS = {}

TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)
NO_FUNCTION = re.compile(r"^\s*(?:template\s*<[^{]*>\s*)?(?:inline\s+)?(namespace|class|struct|enum|union|extern)\b")


def blank(match):
    """Comments and literals become nothing but their line breaks."""
    return "\n" * match.group(0).count("\n")


def functions_of(text):
    """(first line, number of lines) of each function, lambdas counted with the function around them."""
    text = TOKEN.sub(blank, text)
    text = re.sub(r"^\s*#(?:[^\n]*\\\n)*[^\n]*", blank, text, flags=re.MULTILINE)
    open_blocks, start, line, found = [], 0, 1, []
    for place, character in enumerate(text):
        if character == "\n":
            line += 1
        elif character == ";":
            start = place + 1
        elif character == "{":
            header = text[start:place]
            inside = any(kind for kind, _ in open_blocks)
            function = not inside and "(" in header and not NO_FUNCTION.match(header) and "=" not in header.split("(")[0]
            first = line - header.lstrip().count("\n")
            open_blocks.append((function, first))
            start = place + 1
        elif character == "}":
            if open_blocks:
                function, first = open_blocks.pop()
                if function:
                    found.append((first, line - first + 1))
            start = place + 1
    return found


def percentile(sizes):
    ordered = sorted(size for size, _ in sizes)
    return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))] if ordered else 0


def main():
    files, functions = [], []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix not in (".h", ".cpp", ".cu", ".cuh") or "/include/espalier/base" in path.as_posix():
                continue
            text = path.read_text()
            name = path.relative_to(ROOT).as_posix()
            files.append((text.count("\n"), name))
            functions += [(size, f"{name}:{first}") for first, size in functions_of(text)]
    problems = [f"{name}: {size} lines; at most {FILE_CAP}" for size, name in files
                if size > FILE_CAP and name not in EXCEPTIONS]
    for kind, sizes, limit in (("file", files, FILE_PERCENTILE), ("function", functions, FUNCTION_PERCENTILE)):
        value = percentile(sizes)
        print(f"{len(sizes)} {kind}s, 95th percentile {value} lines; the largest:")
        for size, name in sorted(sizes, reverse=True)[:5]:
            print(f"  {size:5} {name}")
        if value > limit:
            problems.append(f"95th percentile of {kind} sizes is {value} lines; at most {limit}")
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
