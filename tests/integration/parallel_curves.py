#!/usr/bin/env python3
"""Several processes learn what one learns.

    parallel_curves.py ESPALIER FIXTURES [--backend NAME] CASE...

A case is STRATEGY:RANKS:MODEL:VARIANT[:key=value...]; further keys go into [distributed]. Each is trained for 20 steps
with clipping, and compared with one process: loss within 1e-6 relative at the first step, then 1e-5; gradient norm
within 1e-4; label tokens equal; final weights within 1e-4 of the largest. A step has four rows of different numbers of
labels, so that three ranks have unequal shares of it.
"""

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

from training_curves import check, read_safetensors, write_int64

STEPS = 20
ROWS, WIDTH = 4, 24
IGNORED = -100

VARIANTS = {  # rows of a micro-batch, and further sections by family
    "full": (1, lambda gpt2: ""),
    "whole": (4, lambda gpt2: ""),
    "sgd": (1, lambda gpt2: ""),
    "frozen": (1, lambda gpt2: freeze(["*wte*", "*.h.0.*"] if gpt2 else ["*embed*", "*layers.0.*"])),
    "block_frozen": (2, lambda gpt2: freeze(["*.h.1.*"] if gpt2 else ["*layers.1.*"])),
    "lora": (1, lambda gpt2: lora(["*c_attn", "*mlp.c_proj"] if gpt2 else ["*q_proj", "*v_proj", "*down_proj"])),
    "lora_everywhere": (1, lambda gpt2: lora(["*_proj", "lm_head", "*embed_tokens"], "dropout = 0.2\n")),
    "int8": (1, lambda gpt2: lora(["*c_attn", "*mlp.c_proj"] if gpt2 else ["*q_proj", "*down_proj"]) + '[quantization]\ntype = "int8"\n'),
    "ia3": (1, lambda gpt2: '[peft]\ntype = "ia3"\n'),
    "prompt": (1, lambda gpt2: '[peft]\ntype = "prompt_tuning"\nnum_virtual_tokens = 3\n'),
    "prefix": (1, lambda gpt2: '[peft]\ntype = "prefix_tuning"\nnum_virtual_tokens = 3\n'),
    "adafactor": (1, lambda gpt2: ""),
    "schedule_free": (1, lambda gpt2: ""),
    "muon": (1, lambda gpt2: ""),
    "adamw_8bit": (1, lambda gpt2: ""),
}
OPTIMIZERS = {  # of variants that are about one
    "adafactor": 'type = "adafactor"\nlr = 1e-3',
    "schedule_free": 'type = "schedule_free_adamw"\nlr = 1e-3\nwarmup_steps = 4',
    "muon": 'type = "muon"\nlr = 1e-3',
    "adamw_8bit": 'type = "adamw_8bit"\nlr = 1e-3\nmin_8bit_size = 1024\nblock_size = 96',  # blocks across rows
}


def freeze(patterns):
    return f"[freeze_config]\npatterns = {json.dumps(patterns)}\n"


def lora(modules, more=""):
    return f'[peft]\ntype = "lora"\ndim = 4\ntarget_modules = {json.dumps(modules)}\n{more}'


def write_data(path, vocab):
    random.seed(7)
    ids, labels = [], []
    for row in range(3 * ROWS):
        tokens = [random.randrange(3, vocab) for _ in range(WIDTH)]
        ids += tokens
        # From almost no label to all of them.
        labels += [t if i % (1 + row % 5) == 0 and i >= row % 7 else IGNORED for i, t in enumerate(tokens)]
    write_int64(path, {"input_ids": ([3, ROWS, WIDTH], ids), "labels": ([3, ROWS, WIDTH], labels)})


def write_recipe(work, name, model, variant, distributed):
    local_batch, sections = VARIANTS[variant]
    sections = sections(model.name == "gpt2")
    # The key bias of gpt2 has a gradient that is zero but for rounding: Adam would blow that up.
    sgd = variant == "sgd" or model.name == "gpt2"
    optimizer = 'type = "sgd"\nlr = 0.05\nmomentum = 0.9' if sgd else 'type = "adamw"\nlr = 1e-3'
    optimizer = OPTIMIZERS.get(variant, optimizer)
    path = work / f"{name}.toml"
    path.write_text(f'''output_dir = "{work / name}"
[model]
path = "{model}"
[dataset]
type = "pretokenized"
path = "{work / 'data.safetensors'}"
[step_scheduler]
global_batch_size = {ROWS}
local_batch_size = {local_batch}
max_steps = {STEPS}
[clip_grad_norm]
max_norm = 0.5
[optimizer]
{optimizer}
[lr_scheduler]
type = "constant"
[checkpoint]
enabled = false
{sections}{distributed}''')
    return path


def train(program, recipe, ranks):
    command = [program, "train", str(recipe), "--quiet"]
    if ranks > 1:
        command += ["--nproc-per-node", str(ranks)]
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    if result.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {result.returncode}\n{result.stdout}{result.stderr}")
    run = recipe.with_suffix("")
    return [json.loads(line) for line in (run / "training.jsonl").read_text().splitlines()]


def final_weights(recipe):
    folder = recipe.with_suffix("") / "final"
    name = "adapter_model.safetensors" if (folder / "adapter_model.safetensors").exists() else "model.safetensors"
    return read_safetensors(folder / name)


def compare(case, ours, theirs, our_weights, their_weights):
    failures = [] if len(ours) == len(theirs) == STEPS else [f"{len(ours)} and {len(theirs)} steps"]
    worst = {"loss": 0.0, "grad_norm": 0.0, "weights": 0.0}
    for a, b in zip(ours, theirs):
        for key, limit in (("loss", 1e-6 if a["step"] == 1 else 1e-5), ("grad_norm", 1e-4)):
            worst[key] = max(worst[key], abs(a[key] - b[key]) / abs(b[key]))
            check(failures, f"step {a['step']} {key}", a[key], b[key], limit * abs(b[key]))
        for key in ("num_label_tokens", "num_tokens", "epoch", "lr"):
            check(failures, f"step {a['step']} {key}", a[key], b[key], 0)
    if our_weights.keys() != their_weights.keys():
        failures.append("other tensors are exported")
    for name, (shape, values) in their_weights.items():
        largest = max(map(abs, values)) or 1.0
        difference = max(abs(x - y) for x, y in zip(our_weights[name][1], values))
        worst["weights"] = max(worst["weights"], difference / largest)
        check(failures, name, difference, 0.0, 1e-4 * largest)
    figures = ", ".join(f"{key} {value:.1e}" for key, value in worst.items())
    print(f"{case}: {'ok' if not failures else 'DIFFERS'} ({figures})")
    for failure in failures[:10]:
        print("   ", failure)
    return bool(failures)


def main():
    program, fixtures = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
    cases, backend = sys.argv[3:], ""
    if cases[0] == "--backend":
        backend, cases = f'[dist_env]\ntype = "{cases[1]}"\n', cases[2:]
    bad = False
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        alone = {}
        for number, case in enumerate(cases):
            strategy, ranks, model, variant, *keys = case.split(":")
            source = fixtures / "models" / model
            if (model, variant) not in alone:
                write_data(work / "data.safetensors", json.loads((source / "config.json").read_text())["vocab_size"])
                recipe = write_recipe(work, f"{model}_{variant}", source, variant, "")
                alone[model, variant] = train(program, recipe, 1), final_weights(recipe)
            section = f'[distributed]\ntype = "{strategy}"\n' + "".join(key.replace("=", " = ") + "\n" for key in keys)
            section += backend
            recipe = write_recipe(work, f"case_{number}", source, variant, section)
            curve = train(program, recipe, int(ranks))
            bad |= compare(case, curve, alone[model, variant][0], final_weights(recipe), alone[model, variant][1])
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
