#!/usr/bin/env python3
"""Checks that core/ names no component of a plugin: check_component_names.py [FOLDER with NAME.espalier.json...]

The names come from the manifests that the build wrote, and from the registrations in plugins/."""

import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
REGISTRATION = re.compile(r'\badd<[^;(]*>\(\s*"([^"]+)"')
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
# Folder -> words that mean something else there than the components of the same name.
ALLOWED = {
    # What GGUF files call their layouts (general.architecture), tokenizers (tokenizer.ggml.model, .pre) and rotary
    # scalings; which plugin serves the imported model is decided by its config.json.
    "core/formats/gguf_": {"llama", "gpt2", "qwen2", "linear"},
    "core/formats/gguf_families": {"qwen3", "smollm3", "gemma", "gemma2", "gemma3", "phi3", "granite", "starcoder2",
                                   "olmo2", "stablelm", "nemotron", "seed_oss"},
    # The command of that name.
    "core/app/chat.cpp": {"chat"},
    "core/app/commands.cpp": {"chat"},
    "core/engine/commands/entry.cpp": {"chat"},
}


def names_of_components(folders):
    names = set()
    for folder in folders:
        for path in pathlib.Path(folder).glob("*.espalier.json"):
            names |= {component["name"] for component in json.loads(path.read_text())["components"]}
    for path in (ROOT / "plugins").rglob("*.cpp"):
        names |= set(REGISTRATION.findall(path.read_text()))
    return names


def is_allowed(path, name):
    return any(path.startswith(prefix) and name in words for prefix, words in ALLOWED.items())


def main():
    names = names_of_components(sys.argv[1:])
    problems = []
    for path in sorted((ROOT / "core").rglob("*")):
        if path.suffix not in (".h", ".cpp"):
            continue
        text = COMMENT.sub(lambda match: "\n" * match.group(0).count("\n"), path.read_text())
        relative = path.relative_to(ROOT).as_posix()
        for number, line in enumerate(text.splitlines(), 1):
            for literal in re.findall(r'"((?:\\.|[^"\\])*)"', line):
                if literal in names and not is_allowed(relative, literal):
                    problems.append(f"{relative}:{number}: names the component '{literal}'")
    print("\n".join(problems) if problems else f"core/ names none of {len(names)} components")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
