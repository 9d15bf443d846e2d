#!/usr/bin/env python3
"""Token throughput of training on short-answer chats: packed rows against padded batches, in one run.

    bench/packing.py MODEL DATA.jsonl [--espalier PATH] [--length 1024] [--rows 4] [--steps 6]

Every micro-batch has the same number of rows. Padded: a sample a row. Packed: rows of LENGTH tokens, best fit. Printed are
tokens and label tokens per second, the median over the steps after the first."""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

WAYS = {"padded": [], "packed": ["--packed_sequence.packing_strategy=best_fit"]}


def measure(arguments, name, overrides, work):
    recipe = work / f"{name}.toml"
    recipe.write_text(f'''output_dir = "{work / name}"
[model]
path = "{pathlib.Path(arguments.model).resolve()}"
[dataset]
type = "chat"
path = "{pathlib.Path(arguments.data).resolve()}"
[step_scheduler]
global_batch_size = {arguments.rows}
local_batch_size = {arguments.rows}
max_steps = {arguments.steps}
[optimizer]
type = "sgd"
lr = 1e-6
[checkpoint]
enabled = false
''')
    subprocess.run([arguments.espalier, "train", str(recipe), "--quiet", *overrides], check=True)
    lines = [json.loads(line) for line in (work / name / "training.jsonl").read_text().splitlines()][1:]
    return {key: statistics.median(line[key] / line["step_seconds"] for line in lines)
            for key in ("num_tokens", "num_label_tokens")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--espalier", default="build/release/bin/espalier")
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--steps", type=int, default=6)
    arguments = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, overrides in WAYS.items():
            if name == "packed":
                overrides = [*overrides, f"--packed_sequence.packed_sequence_size={arguments.length}"]
            results[name] = measure(arguments, name, overrides, pathlib.Path(folder))
            print(f"{name:8} {results[name]['num_tokens']:10.0f} tokens/s "
                  f"{results[name]['num_label_tokens']:10.0f} label tokens/s", flush=True)
    print(f"packed / padded: {results['packed']['num_tokens'] / results['padded']['num_tokens']:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
