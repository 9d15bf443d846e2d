#!/usr/bin/env python3
"""Measures how long commands take from start to end, page cache warm.

    bench/startup.py [--program build/release/bin/espalier] [--runs 30] [--model DIR]

Prints the median and the slowest of the runs; the goal is 20 ms, and 100 ms for listing a folder of 200 plugins. With --model it also measures the start of the first
training step: the time until the first line of training.jsonl, less the seconds of that step; the goal is 3 s for
SmolLM2-135M.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "integration"))
from training_curves import write_int64  # noqa: E402

COMMANDS = (["--help"], ["--version"], ["plugins", "list"], ["plugins", "list", "--json"])
GOAL_SECONDS = 0.020
MANY_GOAL_SECONDS = 0.100
SEQUENCE = 128


def many_plugins(program, folder, count):
    """`count` plugins that differ in their manifest: copies of one of the program's own with another id."""
    plugins = sorted((program.parent.parent / "lib" / "plugins").glob("*.espalier.so"))
    smallest = min(plugins, key=lambda path: path.stat().st_size)
    manifest = json.loads(smallest.with_suffix(".json").read_text())
    for i in range(count):
        manifest["id"] = f"bench.plugin_{i}"
        text = folder / "manifest.json"
        text.write_text(json.dumps(manifest))
        subprocess.run(["objcopy", "--update-section", f".espalier.manifest={text}", smallest,
                        folder / f"plugin_{i}.espalier.so"], check=True)


def time_command(words, runs):
    seconds = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - start)
    return seconds[1:]  # the first fills the page cache


def first_step_starts_after(program, model):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        ids = [i % 1000 for i in range(SEQUENCE)]
        write_int64(folder / "data.safetensors", {"input_ids": ([1, 1, SEQUENCE], ids), "labels": ([1, 1, SEQUENCE], ids)})
        (folder / "recipe.toml").write_text(
            f'output_dir = "{folder / "run"}"\n[model]\npath = "{model.resolve()}"\n[dataset]\ntype = "pretokenized"\n'
            f'path = "{folder / "data.safetensors"}"\n[step_scheduler]\nglobal_batch_size = 1\nlocal_batch_size = 1\n'
            'max_steps = 1000\n[optimizer]\ntype = "adamw"\nlr = 1e-5\n[lr_scheduler]\ntype = "constant"\n'
            "[checkpoint]\nenabled = false\n")
        log = folder / "run" / "training.jsonl"
        start = time.perf_counter()
        process = subprocess.Popen([program, "train", folder / "recipe.toml", "--quiet"])
        while process.poll() is None and (not log.exists() or "\n" not in log.read_text()):
            time.sleep(0.002)
        seconds = time.perf_counter() - start
        process.kill()
        process.wait()
        return seconds - json.loads(log.read_text().splitlines()[0])["step_seconds"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "build" / "release" / "bin" / "espalier")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--model", type=pathlib.Path)
    options = parser.parse_args()

    def report(name, words, goal):
        seconds = time_command([options.program, *words], options.runs)
        median = statistics.median(seconds)
        print(f"{name:24} median {median * 1000:6.1f} ms   slowest {max(seconds) * 1000:6.1f} ms   "
              f"{'ok' if median < goal else f'past the goal of {goal * 1000:.0f} ms'}")

    for words in COMMANDS:
        report(" ".join(words), words, GOAL_SECONDS)
    with tempfile.TemporaryDirectory() as folder:
        many_plugins(options.program, pathlib.Path(folder), 200)
        report("list of 200 plugins", ["plugins", "list", "--plugin-path", folder], MANY_GOAL_SECONDS)
    if options.model:
        first_step_starts_after(options.program, options.model)
        print(f"first step of {options.model.name} starts after {first_step_starts_after(options.program, options.model):.2f} s")


if __name__ == "__main__":
    main()
