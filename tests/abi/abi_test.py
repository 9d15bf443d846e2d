"""abi_test.py CC INCLUDE [--record]: compares the layout of the stable C interface with what sdk/abi records for its
version, and with the earlier minor versions of the same major, whose plugins still have to work."""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
RECORDS = HERE.parent.parent / "sdk" / "abi"
INCOMPATIBLE = 8  # bit of abidiff's exit status


def version(include):
    header = (include / "espalier" / "sdk" / "stable_c.h").read_text()
    return tuple(int(re.search(rf"#define ESPALIER_C_ABI_{part} (\d+)", header).group(1)) for part in ("MAJOR", "MINOR"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("compiler")
    parser.add_argument("include", type=pathlib.Path)
    parser.add_argument("--record", action="store_true")
    arguments = parser.parse_args()
    major, minor = version(arguments.include)
    record = RECORDS / f"stable_c-{major}.{minor}.abi"
    with tempfile.TemporaryDirectory() as folder:
        library = pathlib.Path(folder) / "libsurface.so"
        subprocess.run([arguments.compiler, "-std=c11", "-g", "-gdwarf-4", "-shared", "-fPIC", f"-I{arguments.include.resolve()}",
                        "stable_c_surface.c", "-o", library], check=True, cwd=HERE)  # a relative name is recorded
        if arguments.record:
            text = subprocess.run(["abidw", "--no-corpus-path", "--no-comp-dir-path", "--no-show-locs", library], check=True,
                                  capture_output=True, text=True).stdout
            record.write_text(text)
            return 0
        if not record.exists():
            print(f"no layout is recorded for version {major}.{minor} of the stable interface\n"
                  f"python3 {pathlib.Path(__file__).name} ... --record writes it")
            return 1
        problems = []
        for other in sorted(RECORDS.glob(f"stable_c-{major}.*.abi")):
            result = subprocess.run(["abidiff", "--no-show-locs", other, library], capture_output=True, text=True)
            if other == record and result.returncode != 0:
                problems.append(f"the layout differs from the recorded one of the same version {major}.{minor}:\n{result.stdout}"
                                "a field at the end of a structure asks for a new ESPALIER_C_ABI_MINOR and --record, anything "
                                "else for a new ESPALIER_C_ABI_MAJOR")
            elif result.returncode & INCOMPATIBLE:
                problems.append(f"plugins of {other.stem} would break:\n{result.stdout}")
    print("\n".join(problems) if problems else f"the stable interface {major}.{minor} is laid out as recorded")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
