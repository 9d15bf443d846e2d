#!/usr/bin/env python3
"""Full fine-tuning by one process with two threads, and by two processes with one thread each, in one run.

    bench/parallel_training.py --program build/release/bin/espalier --model models/smollm2 [--tokens 8192] [--length 256]
                               [--steps 4] [--backends shared_memory gloo]

Prints tokens/s of each, its share of the single process, and what a rank sends in a step. The first step is left out.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import struct
import subprocess
import tempfile


def write_data(path, rows, length, vocab):
    random.seed(1)
    tensors = {"input_ids": [random.randrange(vocab) for _ in range(rows * length)]}
    tensors["labels"] = tensors["input_ids"]
    header, data = {}, b""
    for name, values in tensors.items():
        packed = struct.pack(f"<{len(values)}q", *values)
        header[name] = {"dtype": "I64", "shape": [1, rows, length], "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def write_recipe(options, folder, name, sections):
    rows = options.tokens // options.length
    path = folder / f"{name}.toml"
    path.write_text(
        f'output_dir = "{folder / name}"\n[model]\npath = "{options.model.resolve()}"\ndtype = "float32"\n'
        f'[dataset]\ntype = "pretokenized"\npath = "{folder / "data.safetensors"}"\n[step_scheduler]\n'
        f'global_batch_size = {rows}\nlocal_batch_size = {max(1, rows // 4)}\nmax_steps = {options.steps}\n'
        f'[optimizer]\ntype = "adamw"\nlr = 1e-5\n[lr_scheduler]\ntype = "constant"\n[checkpoint]\nenabled = false\n{sections}')
    return path


def train(options, recipe, ranks, threads):
    words = ["--nproc-per-node", str(ranks)] if ranks > 1 else []
    subprocess.run([options.program, "train", recipe, "--quiet", *words], check=True,
                   env=dict(os.environ, OMP_NUM_THREADS=str(threads)))
    lines = [json.loads(line) for line in (recipe.with_suffix("") / "training.jsonl").read_text().splitlines()]
    return statistics.median(line["tokens_per_second"] for line in lines[1:]), lines[-1]["loss"]


def sent(options, recipe):
    result = subprocess.run([options.program, "estimate", recipe, "--world", "2", "--json"], check=True, capture_output=True)
    return json.loads(result.stdout)["communication_of_a_step"]["bytes_sent"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--backends", nargs="*", default=["shared_memory", "gloo"])
    options = parser.parse_args()
    vocab = json.loads((options.model / "config.json").read_text())["vocab_size"]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_data(folder / "data.safetensors", options.tokens // options.length, options.length, vocab)
        alone, loss = train(options, write_recipe(options, folder, "alone", ""), 1, 2)
        print(f"1 x 2 threads                 {alone:8.1f} tok/s               loss {loss:.5f}")
        for strategy in ("ddp", "fsdp2"):
            for backend in options.backends:
                recipe = write_recipe(options, folder, f"{strategy}_{backend}",
                                      f'[distributed]\ntype = "{strategy}"\n[dist_env]\ntype = "{backend}"\n')
                rate, loss = train(options, recipe, 2, 1)
                print(f"2 x 1 {strategy:6s} {backend:16s} {rate:8.1f} tok/s, {rate / alone:5.3f} of it   loss {loss:.5f}   "
                      f"{sent(options, recipe) / 1e6:.0f} MB sent a step")


if __name__ == "__main__":
    main()
