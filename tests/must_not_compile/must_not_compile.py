"""must_not_compile.py COMPILER INCLUDE...: every source here is refused by the compiler, in the words of expected.json
(a regular expression), and not for another reason: without its mistake (the lines of sound.cpp) the SDK compiles."""

import json
import pathlib
import re
import subprocess
import sys

FOLDER = pathlib.Path(__file__).resolve().parent


def compile_source(compiler, includes, source):
    command = [compiler, "-std=c++20", "-fsyntax-only", "-DESPALIER_NO_TORCH", *(f"-I{path}" for path in includes), source]
    return subprocess.run(command, capture_output=True, text=True)


def main():
    compiler, *includes = sys.argv[1:]
    expected = json.loads((FOLDER / "expected.json").read_text())
    problems = []
    sound = compile_source(compiler, includes, FOLDER / "sound.cpp")
    if sound.returncode != 0:
        problems.append(f"sound.cpp does not compile:\n{sound.stderr}")
    sources = sorted(path for path in FOLDER.glob("*.cpp") if path.stem != "sound")
    if {path.stem for path in sources} != set(expected):
        problems.append("sources and expected.json name different cases")
    for source in sources:
        result = compile_source(compiler, includes, source)
        if result.returncode == 0:
            problems.append(f"{source.name} compiles")
        elif not re.search(expected.get(source.stem, "$^"), result.stderr):
            problems.append(f"{source.name}: the compiler does not say '{expected.get(source.stem)}':\n{result.stderr[:2000]}")
    print("\n".join(problems) if problems else f"{len(sources)} mistakes are refused by the compiler")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
