#!/usr/bin/env python3
"""plugin_reference.py ESPALIER [--check]: writes docs/plugin_reference.md from what the plugins say of themselves, or
compares it. Plugins that a machine can't build (those for CUDA) may be absent when it is compared."""

import argparse
import pathlib
import re
import subprocess
import sys

PAGE = pathlib.Path(__file__).resolve().parent.parent / "docs" / "plugin_reference.md"
HEAD = """# Plugin reference

Every component of the plugins in this repository with its settings, by interface. Made by `scripts/plugin_reference.py`
from the manifests; `espalier plugins inspect NAME` shows the same, `--markdown` in this form, for any plugin.
"""


def sections(text):
    """(interface, component) -> text of the component."""
    found, interface = {}, None
    for part in re.split(r"^(?=##+ )", text, flags=re.MULTILINE):
        title = part.splitlines()[0] if part.strip() else ""
        if title.startswith("## "):
            interface = title[3:]
        elif title.startswith("### "):
            found[(interface, title[4:])] = part.strip()
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    text = subprocess.run([arguments.program, "plugins", "inspect", "--markdown"], check=True, capture_output=True,
                          text=True).stdout
    if not arguments.check:
        PAGE.write_text(HEAD + text)
        return 0
    written, actual = sections(PAGE.read_text()), sections(text)
    problems = [f"{name}: {'differs' if name in written else 'is missing'}" for name, part in actual.items()
                if written.get(name) != part]
    problems += [f"{name}: there is no such component" for name, part in written.items()
                 if name not in actual and "_kernels" not in name[1] and "_nccl" not in name[1]]  # built where CUDA is
    if problems:
        print("\n".join(str(problem) for problem in problems))
        print(f"docs/plugin_reference.md is stale: python3 scripts/plugin_reference.py {arguments.program}")
        return 1
    print(f"docs/plugin_reference.md is what {len(actual)} components say")
    return 0


if __name__ == "__main__":
    sys.exit(main())
