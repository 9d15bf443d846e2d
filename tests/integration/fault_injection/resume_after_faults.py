#!/usr/bin/env python3
"""Interrupts training in every way and checks that the resumed run is bit-equal to one that was left alone.

    resume_after_faults.py kills|faults|signals --program ESPALIER --library LIBRARY --fixtures FOLDER
                           [--seed N] [--guarded] [--every-kind] [--sample N]

kills    a run of 60 steps is killed (-9) at ten random moments and resumed until it ends
faults   kill, full disk and I/O error at every write, sync, rename, creation and removal in the run folder: each in turn
         with one of the three kinds (--every-kind: with all three)
signals  SIGTERM and SIGINT save a checkpoint at the next step boundary and exit with 75

A resumed run has to give the same loss, gradient norm and learning rate in every step, the same final weights, and
leave nothing half-written behind.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

KINDS = ("kill", "enospc", "eio")
IO_EXIT_CODE = 5
STOPPED_EXIT_CODE = 75
LEFTOVER = re.compile(r"^\.saving-|^\.removing-|\.tmp\.|\.writing$|\.old$")
COMPARED = ("step", "epoch", "loss", "grad_norm", "lr", "num_label_tokens", "num_tokens")
TIMEOUT_SECONDS = 120

RECIPE = """
seed = 7
output_dir = "{output}"
[model]
path = "{fixtures}/models/llama"
[dataset]
type = "pretokenized"
path = "{fixtures}/training/full_adamw/data.safetensors"
[validation_dataset]
type = "pretokenized"
path = "{fixtures}/training/sgd_plain/data.safetensors"
[dataloader]
shuffle = true
[step_scheduler]
global_batch_size = 2
local_batch_size = 1
max_steps = {steps}
ckpt_every_steps = {every}
val_every_steps = {every}
[optimizer]
type = "adamw"
lr = 1e-3
[lr_scheduler]
type = "cosine"
warmup_steps = 3
[clip_grad_norm]
max_norm = 1.0
[checkpoint]
max_recent_checkpoints = {keep}
"""
# What looks after a run, with state of its own; the best value is not the last one.
GUARDS = """best_metric = "training.grad_norm"
[early_stopping]
metric = "validation.loss"
patience = 50
[ema]
decay = 0.9
[statistics]
every = 2
"""


class Trainer:
    """Runs one recipe in folders of its own."""

    def __init__(self, options, work, steps, every, keep):
        self.options, self.work = options, work
        self.steps, self.every, self.keep = steps, every, keep

    def recipe(self, output):
        path = output.with_suffix(".toml")
        path.write_text(RECIPE.format(output=output, fixtures=self.options.fixtures, steps=self.steps, every=self.every,
                                      keep=self.keep) + (GUARDS if self.options.guarded else ""))
        return path

    def start(self, output, **fault):
        environment = dict(os.environ, OMP_NUM_THREADS="1")
        if fault:
            environment.update({"LD_PRELOAD": str(self.options.library), "FAULT_FOLDER": str(output)})
            environment.update({f"FAULT_{name.upper()}": str(value) for name, value in fault.items()})
        return subprocess.Popen([self.options.program, "train", self.recipe(output), "--quiet"], env=environment,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, output, **fault):
        """(exit code, what it printed); negative for a signal."""
        process = self.start(output, **fault)
        out, err = process.communicate(timeout=TIMEOUT_SECONDS)
        return process.returncode, out + err


def curve(output, name="training.jsonl"):
    lines = [json.loads(line) for line in (output / name).read_text().splitlines()]
    return [{key: line[key] for key in COMPARED if key in line} for line in lines]


def differences(output, reference):
    """What is not as in the run that was left alone."""
    found = []
    for name in ("training.jsonl", "validation.jsonl"):
        ours, theirs = curve(output, name), curve(reference, name)
        if ours != theirs:
            first = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
            found.append(f"{name}: {len(ours)} lines of {len(theirs)}; the first that differs is {first + 1}: "
                         f"{ours[first:first + 1]} instead of {theirs[first:first + 1]}")
    files = sorted((reference / "final").iterdir())
    if (reference / "final_ema").exists():
        files += [*sorted((reference / "final_ema").iterdir()), *sorted((reference / "checkpoints/best").iterdir()),
                  reference / "statistics.jsonl"]
    for path in files:
        name = path.relative_to(reference)
        if not (output / name).exists() or (output / name).read_bytes() != path.read_bytes():
            found.append(f"{name} differs")
    found += [f"{path.relative_to(output)} was left behind" for path in output.rglob("*") if LEFTOVER.search(path.name)]
    checkpoints = sorted(path.name for path in (output / "checkpoints").iterdir() if path.is_dir())
    if checkpoints != sorted(path.name for path in (reference / "checkpoints").iterdir() if path.is_dir()):
        found.append(f"other checkpoints: {checkpoints}")
    if (output / "checkpoints" / "LATEST").read_text().strip() != max(c for c in checkpoints if c.startswith("step-")):
        found.append("LATEST does not name the newest checkpoint")
    return found


def check_message(code, text):
    """A failure of the disk is one clear error; anything else is a finding."""
    found = []
    if code not in (0, IO_EXIT_CODE):
        found.append(f"exit code {code}")
    if code != 0 and (text.count("error:") != 1 or "terminate" in text or "#0" in text):
        found.append(f"not one clear error: {text!r}")
    return found


def report(what, findings):
    for finding in findings:
        print(f"  {what}: {finding}", flush=True)
    return len(findings)


def kills(options, work):
    trainer = Trainer(options, work, steps=60, every=5, keep=2)
    reference = work / "reference"
    code, text = trainer.run(reference)
    if code != 0:
        sys.exit(f"the run that is left alone fails: {text}")
    generator = random.Random(options.seed)
    moments = sorted(generator.sample(range(1, trainer.steps), 10))
    print(f"seed {options.seed}: kills after steps {moments}", flush=True)
    output = work / "killed"
    done = 0
    for moment in moments:
        process = trainer.start(output)
        log = output / "training.jsonl"
        while process.poll() is None and (not log.exists() or log.read_text().count("\n") < moment):
            time.sleep(0.0005)
        time.sleep(generator.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        _, text = process.communicate()
        if process.returncode == -signal.SIGKILL:
            done += 1
        elif process.returncode != 0:
            return report(f"resumed for the kill after step {moment}", [f"exit code {process.returncode}: {text}"])
    code, text = trainer.run(output)
    print(f"{done} of 10 kills came before the end of the run")
    return report("after the kills", [f"exit code {code}: {text}"] if code != 0 else differences(output, reference))


def inject(trainer, reference, kind, number, call):
    output = trainer.work / f"{kind}-{number}"
    code, text = trainer.run(output, kind=kind, at=number)
    findings = [] if kind == "kill" and code == -signal.SIGKILL else check_message(code, text)
    if not findings and code != 0:
        code, text = trainer.run(output)
        if code != 0:
            findings.append(f"the resumed run exits with {code}: {text}")
    findings += [] if findings else differences(output, reference)
    if not findings:
        shutil.rmtree(output)
    return f"{kind} at call {number} ({call})", findings


def faults(options, work):
    trainer = Trainer(options, work, steps=4, every=2, keep=1)
    reference = work / "reference"
    log = work / "calls"
    code, text = trainer.run(reference, log=log)
    if code != 0:
        sys.exit(f"the run that is left alone fails: {text}")
    calls = [line.split(" ", 1)[1].replace(str(reference) + "/", "") for line in log.read_text().splitlines()]
    cases = []
    for i, call in enumerate(calls, 1):
        kinds = KINDS if options.every_kind else [KINDS[(i + options.seed) % len(KINDS)]]
        cases += [(kind, i, call) for kind in kinds]
    total = len(cases)
    if options.sample and options.sample < total:
        cases = random.Random(options.seed).sample(cases, options.sample)
    print(f"seed {options.seed}: {len(calls)} calls change the run folder; {len(cases)} of {total} faults are injected"
          f"{'' if options.every_kind else ' (one kind a call; all three with --every-kind)'}", flush=True)
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for what, findings in pool.map(lambda case: inject(trainer, reference, *case), cases):
            bad += report(what, findings)
    return bad


def signals(options, work):
    trainer = Trainer(options, work, steps=12, every=5, keep=2)
    reference = work / "reference"
    log = work / "calls"
    trainer.run(reference, log=log)
    numbers = [int(line.split()[0]) for line in log.read_text().splitlines() if line.endswith(" training.jsonl")
               or (line.endswith("/training.jsonl") and " write " in line)]
    bad = 0
    for kind, step in (("term", 7), ("int", 3), ("term", 5), ("int", 12)):
        output = work / f"{kind}-{step}"
        code, text = trainer.run(output, kind=kind, at=numbers[step - 1])
        findings = []
        if step < trainer.steps:
            if code != STOPPED_EXIT_CODE:
                findings.append(f"exit code {code}: {text}")
            newest = (output / "checkpoints" / "LATEST").read_text().strip()
            if newest != f"step-{step:08}":
                findings.append(f"the newest checkpoint is {newest}")
            code, text = trainer.run(output)
        if code != 0:
            findings.append(f"the run ends with {code}: {text}")
        # The checkpoint of the stop is one of the newest two, so the list of checkpoints may be another.
        findings += [finding for finding in differences(output, reference) if "other checkpoints" not in finding]
        bad += report(f"SIG{kind.upper()} in step {step}", findings)
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("kills", "faults", "signals"))
    parser.add_argument("--program", required=True)
    parser.add_argument("--library", required=True)
    parser.add_argument("--fixtures", type=pathlib.Path, required=True)
    parser.add_argument("--seed", type=int, default=None, help="default: of the clock")
    parser.add_argument("--guarded", action="store_true", help="with early stopping, best checkpoint, averages, statistics")
    parser.add_argument("--every-kind", action="store_true")
    parser.add_argument("--sample", type=int, default=0)
    options = parser.parse_args()
    options.fixtures = options.fixtures.resolve()
    if options.seed is None:
        options.seed = int(time.time())
    with tempfile.TemporaryDirectory() as work:
        bad = {"kills": kills, "faults": faults, "signals": signals}[options.what](options, pathlib.Path(work).resolve())
    print("bit-equal in every case" if bad == 0 else f"{bad} findings")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
