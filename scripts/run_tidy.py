#!/usr/bin/env python3
"""Runs clang-tidy over the files of a build, in parallel and with a cache.

    run_tidy.py [--changed | --all] [--jobs N] BUILD [FILE ...]

--changed (the default): every file without LibTorch, and those with LibTorch that differ from the commit where the
branch left main; on main itself, from the commit before. A header counts for the .cpp of its name. FILE: these alone.
A file with LibTorch's headers costs 10 to 20 s, the others 2 to 6 s.

The compile commands are the build's without what GCC alone knows and without the precompiled header. Results are kept
under BUILD/tidy; a file is looked at again when it, a header of the project that it includes, its command or .clang-tidy
changes. Which it includes is known from the build; before a build any header counts.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ("core", "sdk", "plugins", "tests", "tools", "bench", "examples")
GCC_ONLY = {"-fno-gnu-unique", "-fpch-preprocess", "-Winvalid-pch", "-fno-reorder-blocks-and-partition"}


def tidy_command(entry):
    """The entry's command as clang understands it."""
    words = shlex.split(entry["command"])
    while not re.search(r"(^|/)(c\+\+|g\+\+|clang\+\+)[^/]*$", words[0]):  # ccache and the variables before it
        words.pop(0)
    kept, i = [], 0
    while i < len(words):
        if words[i] == "-include" and "cmake_pch" in words[i + 1]:
            i += 2
            continue
        if words[i] not in GCC_ONLY:
            kept.append(words[i])
        i += 1
    return kept


def database(build):
    """Path relative to the tree -> entry; a file that several targets compile counts once."""
    entries = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        path = pathlib.Path(entry["file"])
        if not path.is_relative_to(ROOT) or path.suffix != ".cpp" or path.relative_to(ROOT).parts[0] not in FOLDERS:
            continue
        words = tidy_command(entry)
        entries.setdefault(path.relative_to(ROOT).as_posix(),
                           {"directory": entry["directory"], "file": str(path), "arguments": words})
    return entries


def included_headers(build):
    """Object as the compile command names it -> headers of the project that it was compiled with, by Ninja's records."""
    text = subprocess.run(["ninja", "-C", str(build), "-t", "deps"], capture_output=True, text=True).stdout
    headers, own = {}, set()
    for line in text.splitlines():
        if line.startswith("    "):
            path = pathlib.Path(os.path.normpath(build / line.strip()))
            if path.suffix == ".h" and path.is_relative_to(ROOT):
                own.add(path)
        elif line:
            own = set()
            if line.endswith("(VALID)"):
                headers[line.split(":")[0]] = own
    return headers


def uses_libtorch(entry):
    return any("torch/csrc/api/include" in word for word in entry["arguments"])


def git(*arguments):
    result = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return result.stdout.split() if result.returncode == 0 else []


def changed_files():
    """Empty where the history is too short to tell, as in a clone of depth 1."""
    head = git("rev-parse", "HEAD")
    for main in ("origin/main", "main"):
        base = git("merge-base", "HEAD", main)
        if base and base != head:
            break
    else:
        base = git("rev-parse", "--verify", "-q", "HEAD~1")
    names = git("diff", "--name-only", base[0]) if base else []
    names += git("ls-files", "--others", "--exclude-standard")
    print(f"clang-tidy: {len(names)} files differ from {base[0][:12] if base else 'nothing: no history'}")
    return set(names)


def is_chosen(name, entry, changed):
    if not uses_libtorch(entry):
        return True
    path = pathlib.Path(name)
    return bool(changed & {name, path.with_suffix(".h").as_posix()})


class Runner:
    def __init__(self, folder):
        self.folder = folder
        self.included = included_headers(folder.parent)
        self.every_header = {path for folder in FOLDERS for path in (ROOT / folder).rglob("*.h")}

    def key(self, entry):
        digest = hashlib.sha256((ROOT / ".clang-tidy").read_bytes())
        digest.update(json.dumps(entry["arguments"]).encode())
        digest.update(pathlib.Path(entry["file"]).read_bytes())
        words = entry["arguments"]
        made = words[words.index("-o") + 1] if "-o" in words else None
        for path in sorted(self.included.get(made, self.every_header)):
            digest.update(path.read_bytes())
        return self.folder / "passed" / digest.hexdigest()

    def run(self, entry):
        """Empty when the file is clean, otherwise what clang-tidy says."""
        stamp = self.key(entry)
        if stamp.exists():
            return ""
        command = ["clang-tidy", "--quiet", "-p", str(self.folder), entry["file"]]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode == 0 and "warning:" not in result.stdout:
            stamp.touch()
            return ""
        errors = "\n".join(line for line in result.stderr.splitlines() if "error" in line)
        return result.stdout + errors or f"{entry['file']}: clang-tidy ended with {result.returncode}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changed", action="store_true")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("files", nargs="*")
    options = parser.parse_args()

    entries = database(options.build.resolve())
    folder = options.build.resolve() / "tidy"
    (folder / "passed").mkdir(parents=True, exist_ok=True)
    (folder / "compile_commands.json").write_text(json.dumps(list(entries.values()), indent=1))
    if options.files:
        unknown = [name for name in options.files if name not in entries]
        if unknown:
            sys.exit(f"clang-tidy: not compiled in {options.build}: {', '.join(unknown)}; name files from the tree's root")
        chosen = [entries[name] for name in options.files]
    elif options.all:
        chosen = list(entries.values())
    else:
        changed = changed_files()
        chosen = [entry for name, entry in entries.items() if is_chosen(name, entry, changed)]

    runner = Runner(folder)
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for entry, text in zip(chosen, pool.map(runner.run, chosen)):
            if text:
                failed += 1
                print(text, flush=True)
    print(f"clang-tidy: {len(chosen)} of {len(entries)} files looked at, {failed} with findings")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
