"""Times Espalier's tokenizer and the `tokenizers` package on the same texts, one thread each, and prints the ratio.

    python bench/tokenizer_speed.py --program build/release/bin/tokenizer_bench [FOLDER ...]

FOLDER holds a tokenizer.json; without one, all of tests/fixtures/tokenizers. The texts are English (Python's reference
manual as it comes with `pydoc`) and code (Python's standard library), 1 MB each. The ids have to be the same. Best of five
runs for both; "first" is Espalier's first run, when it has seen no word before. Needs a Python with `tokenizers` alone.
"""
import argparse
import glob
import hashlib
import json
import os
import pathlib
import pydoc_data.topics
import struct
import subprocess
import sys
import tempfile
import time

os.environ.update(TOKENIZERS_PARALLELISM="false", RAYON_NUM_THREADS="1")

from tokenizers import Tokenizer

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "tests/fixtures/tokenizers"
SIZE = 1_000_000


def texts():
    code = ""
    for path in sorted(glob.glob(os.path.dirname(os.__file__) + "/*.py")):
        code += pathlib.Path(path).read_text(encoding="utf-8")
    return {"english": "\n\n".join(pydoc_data.topics.topics.values())[:SIZE], "code": code[:SIZE]}


def time_reference(tokenizer, text):
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        ids = tokenizer.encode(text).ids
        best = min(best, time.perf_counter() - start)
    return len(text.encode()) / 1e6 / best, hashlib.sha256(struct.pack(f"<{len(ids)}i", *ids)).hexdigest()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", nargs="*", default=sorted(str(path.parent) for path in FIXTURES.glob("*/tokenizer.json")))
    parser.add_argument("--program", required=True)
    arguments = parser.parse_args()
    print(f"{'tokenizer':20} {'text':8} {'tokenizers':>10} {'espalier':>9} {'first':>7}  MB/s   ratio")
    least, same = float("inf"), True
    for folder in arguments.folders:
        tokenizer = Tokenizer.from_file(folder + "/tokenizer.json")
        for name, text in texts().items():
            with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                ours = json.loads(subprocess.run([arguments.program, folder, file.name], check=True, capture_output=True).stdout)
            speed, digest = time_reference(tokenizer, text)
            ratio = ours["mb_per_s"] / speed
            least, same = min(least, ratio), same and digest == ours["ids_sha256"]
            verdict = "" if digest == ours["ids_sha256"] else "  OTHER IDS"
            print(f"{os.path.basename(folder):20} {name:8} {speed:10.2f} {ours['mb_per_s']:9.1f} {ours['first_mb_per_s']:7.1f} {ratio:12.1f}{verdict}",
                  flush=True)
    print(f"least ratio {least:.1f}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
