#!/usr/bin/env python3
"""Compares a real model in both directions with Python's transformers, and resumes a real run. Part of the full run: needs
torch, transformers and safetensors, and the model and data of scripts/fetch_example.sh.

    smollm2_test.py greedy|export|resume --program build/release/bin/espalier --root .

greedy   the same greedy answers to three prompts, here and in transformers on the same folder
export   a fine-tuned and exported model has the same logits in transformers as here
resume   20 steps, killed at random moments and resumed, give the same bits as 20 steps in one go
"""

import argparse
import json
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

PROMPTS = ['Define the noun "lighthouse".', "Write one sentence about the sea.", "What is two plus three?"]
NEW_TOKENS = 32
LOGITS_LIMIT = 1e-5  # of the largest logit, as in every comparison of float32 logits
STEPS = 20
KILLS = 4


def recipe(root, folder, steps):
    return (f'output_dir = "{folder}"\n[model]\npath = "{root}/models/smollm2"\n'
            f'[dataset]\ntype = "chat"\npath = "{root}/data/wordnet/train.jsonl"\n'
            f'[step_scheduler]\nglobal_batch_size = 4\nlocal_batch_size = 2\nmax_steps = {steps}\nckpt_every_steps = 3\n'
            '[optimizer]\ntype = "adamw"\nlr = 1e-4\n[lr_scheduler]\ntype = "cosine"\nwarmup_steps = 4\n')


def run(*words):
    result = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(str(word) for word in words)}\nended with {result.returncode}:\n{result.stdout}{result.stderr}")
    return result.stdout


def load(folder):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(folder)


def greedy(options, work):
    import torch

    folder = options.root / "models" / "smollm2"
    model, tokenizer = load(folder)
    for prompt in PROMPTS:
        messages = [{"role": "user", "content": prompt}]
        (work / "messages.json").write_text(json.dumps(messages))
        ours = json.loads(run(options.program, "generate", "--model", folder, "--messages", work / "messages.json",
                              "--max-new-tokens", NEW_TOKENS, "--dtype", "float32", "--json"))
        inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        with torch.no_grad():
            ids = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)[0, inputs["input_ids"].shape[1]:]
        theirs = ids.tolist()
        print(f"{prompt}\n  {ours['text']!r}")
        if ours["ids"] != theirs:
            sys.exit(f"transformers answers otherwise: {tokenizer.decode(theirs)!r}\n  {ours['ids']}\n  {theirs}")


def export(options, work):
    import torch
    from safetensors.torch import load_file, save_file

    (work / "recipe.toml").write_text(recipe(options.root, work / "run", 3))
    run(options.program, "train", work / "recipe.toml", "--quiet")
    folder = work / "run" / "final"
    model, tokenizer = load(folder)
    ids = tokenizer("The lighthouse keeper lit the lamp and waited for the ships.", return_tensors="pt")["input_ids"]
    save_file({"input_ids": ids}, work / "in.safetensors")
    run(options.program, "score", "--model", folder, "--input", work / "in.safetensors", "--output",
        work / "out.safetensors", "--logits", "--dtype", "float32")
    with torch.no_grad():
        theirs = model(input_ids=ids).logits
        before, _ = load(options.root / "models" / "smollm2")
        untrained = before(input_ids=ids).logits
    ours = load_file(work / "out.safetensors")["logits"]
    largest = theirs.abs().max().item()
    difference = (ours - theirs).abs().max().item() / largest
    moved = (untrained - theirs).abs().max().item() / largest
    print(f"logits differ by {difference:.2e} of the largest (limit {LOGITS_LIMIT:g}); training moved them by {moved:.2e}")
    if difference > LOGITS_LIMIT or moved < 100 * LOGITS_LIMIT:
        sys.exit("the exported model is not the trained one")


def training_lines(folder):
    """Per step what has to be equal: the last line of a step counts, as after a resume."""
    lines = {}
    for line in (folder / "training.jsonl").read_text().splitlines():
        entry = json.loads(line)
        lines[entry["step"]] = (entry["loss"], entry["grad_norm"], entry["lr"], entry["num_tokens"])
    return lines


def resume(options, work):
    (work / "whole.toml").write_text(recipe(options.root, work / "whole", STEPS))
    start = time.monotonic()
    run(options.program, "train", work / "whole.toml", "--quiet")
    seconds = time.monotonic() - start
    (work / "killed.toml").write_text(recipe(options.root, work / "killed", STEPS))
    moments = random.Random(options.seed)
    print(f"seed {options.seed}; a whole run takes {seconds:.0f} s")
    for _ in range(KILLS):
        process = subprocess.Popen([options.program, "train", work / "killed.toml", "--quiet"])
        try:
            process.wait(moments.uniform(0.05, 0.3) * seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        log = work / "killed" / "training.jsonl"
        print(f"killed after {len(log.read_text().splitlines()) if log.exists() else 0} logged steps")
    run(options.program, "train", work / "killed.toml", "--quiet")
    if training_lines(work / "whole") != training_lines(work / "killed"):
        sys.exit("the resumed run took another path")
    name = "final/model.safetensors"
    if (work / "whole" / name).read_bytes() != (work / "killed" / name).read_bytes():
        sys.exit("the exported weights differ")
    print(f"{STEPS} steps and the exported weights are equal bit for bit")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["greedy", "export", "resume"])
    parser.add_argument("--program", required=True, type=pathlib.Path)
    parser.add_argument("--root", required=True, type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=20)
    options = parser.parse_args()
    run("bash", options.root / "scripts" / "fetch_example.sh")
    with tempfile.TemporaryDirectory() as folder:
        globals()[options.what](options, pathlib.Path(folder))


if __name__ == "__main__":
    main()
