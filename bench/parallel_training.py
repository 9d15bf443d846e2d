#!/usr/bin/env python3
"""Full fine-tuning by one process with two threads, and by two processes with one thread each, in one run.

    bench/parallel_training.py --program build/release/bin/espalier --model models/smollm2 [--tokens 8192] [--length 256]
                               [--steps 4] [--backends shared_memory gloo] [--only speed collectives checkpoints memory]

speed        tokens/s of each, its share of the single process, and what a rank sends in a step; the first step left out
collectives  each collective between two processes through shared memory and over Gloo (collectives_bench beside the program)
checkpoints  how long checkpoints hold training up, written while it waits and in the background
memory       peak of a step that `espalier estimate` names for 1, 2 and 4 ranks, and what the allocator of a run then counts;
             resident memory of `espalier export` against the size of the model
"""

import argparse
import json
import os
import pathlib
import random
import socket
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


def write_recipe(options, folder, name, sections, checkpoint="enabled = false", steps=None, tokens=None, every=None):
    rows = (tokens or options.tokens) // options.length
    path = folder / f"{name}.toml"
    path.write_text(
        f'output_dir = "{folder / name}"\n[model]\npath = "{options.model.resolve()}"\ndtype = "float32"\n'
        f'[dataset]\ntype = "pretokenized"\npath = "{folder / "data.safetensors"}"\n[step_scheduler]\n'
        f'global_batch_size = {rows}\nlocal_batch_size = {max(1, rows // 4)}\nmax_steps = {steps or options.steps}\n'
        + (f"ckpt_every_steps = {every}\n" if every else "") +
        f'[optimizer]\ntype = "adamw"\nlr = 1e-5\n[lr_scheduler]\ntype = "constant"\n[checkpoint]\n{checkpoint}\n{sections}')
    return path


def train(options, recipe, ranks, threads):
    words = ["--nproc-per-node", str(ranks)] if ranks > 1 else []
    subprocess.run([options.program, "train", recipe, "--quiet", *words], check=True,
                   env=dict(os.environ, OMP_NUM_THREADS=str(threads)))
    return [json.loads(line) for line in (recipe.with_suffix("") / "training.jsonl").read_text().splitlines()]


def rate(lines):
    return statistics.median(line["tokens_per_second"] for line in lines[1:]), lines[-1]["loss"]


def estimate(options, recipe, world):
    result = subprocess.run([options.program, "estimate", recipe, "--world", str(world), "--json"], check=True,
                            capture_output=True)
    return json.loads(result.stdout)


def section(strategy, backend="host_or_network"):
    return f'[distributed]\ntype = "{strategy}"\n[dist_env]\ntype = "{backend}"\n'


def speed(options, folder):
    alone, loss = rate(train(options, write_recipe(options, folder, "alone", ""), 1, 2))
    print(f"1 x 2 threads                 {alone:8.1f} tok/s               loss {loss:.5f}")
    for strategy in ("ddp", "fsdp2"):
        for backend in options.backends:
            recipe = write_recipe(options, folder, f"{strategy}_{backend}", section(strategy, backend))
            ours, loss = rate(train(options, recipe, 2, 1))
            sent = estimate(options, recipe, 2)["communication_of_a_step"]["bytes_sent"]
            print(f"2 x 1 {strategy:6s} {backend:16s} {ours:8.1f} tok/s, {ours / alone:5.3f} of it   loss {loss:.5f}   "
                  f"{sent / 1e6:.0f} MB sent a step")


def collectives(options, _):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = pathlib.Path(options.program).with_name("collectives_bench")
    ranks = [subprocess.Popen([program], stdout=subprocess.PIPE, text=True,
                              env=dict(os.environ, RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE="2",
                                       MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), OMP_NUM_THREADS="1"))
             for rank in range(2)]
    lines = [json.loads(line) for line in ranks[0].communicate()[0].splitlines()]
    ranks[1].wait()
    gloo = {(line["collective"], line["bytes"]): line["seconds"] for line in lines if line["backend"] == "gloo"}
    for line in lines:
        if line["backend"] == "gloo":
            continue
        other = gloo[line["collective"], line["bytes"]]
        print(f"{line['collective']:15s} {line['bytes'] / 1e6:9.3f} MB  shared memory {line['seconds'] * 1e3:8.3f} ms, Gloo "
              f"{other * 1e3:8.3f} ms, {other / line['seconds']:5.2f} times as long")


def checkpoints(options, folder):
    held = {}
    for kind in ("false", "true"):
        recipe = write_recipe(options, folder, f"async_{kind}", "", checkpoint=f"is_async = {kind}", steps=12, tokens=2048, every=3)
        # The last checkpoint is waited for in any case; those before it are in the lines of the log.
        lines = train(options, recipe, 1, 2)
        held[kind] = [sum(line.get("checkpoint_seconds", 0) for line in lines[begin:begin + 3]) for begin in (3, 6, 9)]
        print(f"is_async = {kind:5s}  seconds that each checkpoint holds training up: "
              + ", ".join(f"{seconds:.3f}" for seconds in held[kind]))
    print(f"in the background {100 * statistics.median(held['true']) / statistics.median(held['false']):.1f} % of it")


def memory(options, folder):
    for strategy in ("ddp", "fsdp2"):
        for ranks in (1, 2, 4):
            recipe = write_recipe(options, folder, f"memory_{strategy}_{ranks}", section(strategy), steps=3, tokens=2048)
            planned = estimate(options, recipe, ranks)["memory_of_a_rank"]["total"]
            measured = train(options, recipe, ranks, 1)[-1]["memory_peaks"]["total"]
            print(f"{strategy:6s} {ranks} ranks: planned {planned / 1e6:8.1f} MB, measured {measured / 1e6:8.1f} MB, "
                  f"{planned / measured:.3f} of it")
    recipe = write_recipe(options, folder, "exported", section("fsdp2"), checkpoint="", steps=1, tokens=2048)
    train(options, recipe, 2, 1)
    command = [options.program, "export", folder / "exported", "--output", folder / "offline"]
    peak = subprocess.run(["/usr/bin/env", "python3", "-c",
                           "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=2);"
                           "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)", *map(str, command)],
                          check=True, capture_output=True, text=True).stdout
    size = (folder / "offline" / "model.safetensors").stat().st_size
    print(f"export of {size / 1e6:.0f} MB: at most {int(peak) * 1024 / 1e6:.0f} MB resident, of which the program takes some 200")


PARTS = {"speed": speed, "collectives": collectives, "checkpoints": checkpoints, "memory": memory}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--backends", nargs="*", default=["shared_memory", "gloo"])
    parser.add_argument("--only", nargs="*", default=list(PARTS), choices=PARTS)
    options = parser.parse_args()
    vocab = json.loads((options.model / "config.json").read_text())["vocab_size"]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_data(folder / "data.safetensors", options.tokens // options.length, options.length, vocab)
        for part in options.only:
            PARTS[part](options, folder)


if __name__ == "__main__":
    main()
