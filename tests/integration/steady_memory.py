#!/usr/bin/env python3
"""steady_memory.py ESPALIER FIXTURES: a long run takes no more memory than a short one.

The resident memory of the process at its peak is the same after 50 steps as after 10, within 1 %: with rows of one length,
and with rows of many lengths, which all came once within the first 10 steps."""

import json
import pathlib
import random
import subprocess
import sys
import tempfile

from training_curves import write_int64

EARLY, LATE, LIMIT = 10, 50, 0.01
ROWS, WIDTH, BATCH = 40, 96, 4


def write_data(path, varying):
    random.seed(3)
    lengths = [random.randrange(8, WIDTH + 1) if varying else WIDTH for _ in range(ROWS)]
    ids = [random.randrange(3, 250) for _ in range(ROWS * WIDTH)]
    mask = [int(column < length) for length in lengths for column in range(WIDTH)]
    labels = [token if seen else -100 for token, seen in zip(ids, mask)]
    write_int64(path, {name: ([ROWS, WIDTH], values)
                       for name, values in (("input_ids", ids), ("labels", labels), ("attention_mask", mask))})


def main():
    program, fixtures = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
    failed = False
    for name, varying, more in (("rows of one length", False, ""), ("rows of many lengths", True, ""),
                                ("LoRA, rows of many lengths", True, '[peft]\ntype = "lora"\n')):
        with tempfile.TemporaryDirectory() as work:
            work = pathlib.Path(work)
            write_data(work / "data.safetensors", varying)
            (work / "recipe.toml").write_text(
                f'output_dir = "{work / "run"}"\n[model]\npath = "{fixtures / "models" / "llama"}"\n'
                f'[dataset]\ntype = "pretokenized"\npath = "{work / "data.safetensors"}"\n[dataloader]\nshuffle = false\n'
                f'[step_scheduler]\nglobal_batch_size = {BATCH}\nlocal_batch_size = {BATCH}\nmax_steps = {LATE}\n'
                f'[optimizer]\ntype = "adamw"\n[lr_scheduler]\ntype = "constant"\n[checkpoint]\nenabled = false\n{more}')
            subprocess.run([program, "train", work / "recipe.toml", "--quiet"], check=True, capture_output=True)
            lines = [json.loads(line) for line in (work / "run" / "training.jsonl").read_text().splitlines()]
        early, late = lines[EARLY - 1]["peak_rss_bytes"], lines[LATE - 1]["peak_rss_bytes"]
        grown = late / early - 1
        print(f"{name}: {early / 1e6:.1f} MB after {EARLY} steps, {late / 1e6:.1f} MB after {LATE}, {grown:+.2%}")
        failed |= grown > LIMIT
    return failed


if __name__ == "__main__":
    sys.exit(main())
