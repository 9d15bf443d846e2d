#!/usr/bin/env python3
"""Greedy decoding on the CPU, ours against transformers: the same model, prompt, dtype and threads.

    bench/generation.py MODEL [--dtypes float32 bfloat16] [--tokens 128] [--rounds 3] [--threads N]

Each side answers with a few tokens and with many, in processes of its own, alternating; the rate is that of the tokens
between the two, so that loading and the prompt are left out. Where both use float32, the ids have to be equal.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

FEW = 8
PROMPT = "The history of the city begins with"

THEIRS = """
import json, sys, time, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model, dtype, threads, few, many, prompt = sys.argv[1:]
torch.set_num_threads(int(threads))
network = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype))
ids = AutoTokenizer.from_pretrained(model)(prompt, return_tensors="pt")
times = []
for count in (int(few), int(few), int(many)):
    start = time.perf_counter()
    answer = network.generate(**ids, max_new_tokens=count, min_new_tokens=count, do_sample=False)
    times.append(time.perf_counter() - start)
print(json.dumps({"seconds": times[2] - times[1], "ids": answer[0, ids.input_ids.shape[1]:].tolist()}))
"""


def ours(options, dtype):
    """Seconds of a whole process with few and with many tokens; the model is read by both."""
    times, ids = [], []
    for count in (FEW, FEW + options.tokens):
        command = [options.espalier, "generate", "--model", options.model, "--prompt", PROMPT, "--ignore-eos", "--json",
                   "--max-new-tokens", str(count), "--dtype", dtype]
        start = time.perf_counter()
        result = subprocess.run(command, check=True, capture_output=True, text=True,
                                env={**os.environ, "OMP_NUM_THREADS": str(options.threads)})
        times.append(time.perf_counter() - start)
        ids = json.loads(result.stdout)["ids"]
    return {"few": times[0], "many": times[1], "ids": ids}


def theirs(options, dtype):
    command = [options.python, "-c", THEIRS, options.model, dtype, str(options.threads), str(FEW),
               str(FEW + options.tokens), PROMPT]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(result.stdout.splitlines()[-1])


def main():
    cache = pathlib.Path(os.environ.get("ESPALIER_CACHE") or
                         pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "espalier")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--espalier", default="build/release/bin/espalier")
    parser.add_argument("--python", default=str(cache / "python-full/bin/python"), help="one that has torch and transformers")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    if not pathlib.Path(options.python).exists():
        sys.exit(f"{options.python} is not there; name a Python with torch and transformers by --python")
    print("| dtype | ours, tokens/s | theirs | their time / ours | ids |\n|---|---|---|---|---|")
    for dtype in options.dtypes:
        runs = [(ours(options, dtype), theirs(options, dtype)) for _ in range(options.rounds)]
        # The fastest of each, for other processes only ever slow one down.
        mine = min(a["many"] for a, _ in runs) - min(a["few"] for a, _ in runs)
        other = min(b["seconds"] for _, b in runs)
        equal = "equal" if all(a["ids"] == b["ids"] for a, b in runs) else "differ"
        print(f"| {dtype} | {options.tokens / mine:.1f} | {options.tokens / other:.1f} | {other / mine:.2f} | {equal} |", flush=True)
        if dtype == "float32" and equal == "differ":
            sys.exit("the answers in float32 differ")


if __name__ == "__main__":
    main()
