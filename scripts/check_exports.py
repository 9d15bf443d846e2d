#!/usr/bin/env python3
"""Checks that each plugin exports exactly one symbol: check_exports.py FILE.espalier.so..."""

import subprocess
import sys


def main():
    failed = False
    for path in sys.argv[1:]:
        lines = subprocess.run(["nm", "-D", "--defined-only", path], check=True, capture_output=True, text=True)
        symbols = [line.split()[-1] for line in lines.stdout.splitlines()]
        if symbols != ["espalier_plugin"]:
            failed = True
            print(f"{path}: exports {len(symbols)} symbols; expected espalier_plugin alone: {', '.join(symbols[:10])}")
    if not failed:
        print(f"{len(sys.argv) - 1} plugins export espalier_plugin and nothing else")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
