#!/usr/bin/env python3
"""Runs of several processes end cleanly, whatever happens to one of them, and go on on any number of processes.

    parallel_faults.py WHAT --program ESPALIER --library LIBRARY --fixtures FOLDER [--seed N]

kills      one rank is killed (-9) at random moments: the others end within 30 s and say which, nothing is half-written,
           and the resumed run is bit-equal to one that was left alone
hang       a rank is stopped (SIGSTOP): the others name it and end
signals    SIGTERM to the launcher: all ranks save at the same step and it ends with 75; the run then goes on
full_disk  the disk is full from some write on: exit code 5, no half-written checkpoint, the run then goes on
damaged    a checkpoint with a file missing, cut short, or of another checkpoint is refused with one message
reshard    checkpoints of each of several arrangements of ranks are resumed by each other one, with the same curve
background checkpoints written while training goes on: the same bits, and the same after a kill or on a full disk
export     espalier export makes of a checkpoint what the run exports
estimate   espalier estimate agrees with what the strategies promise
errors     a mistake in the data is reported by the rank that met it, and all end
"""

import argparse
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

LEFTOVER = re.compile(r"^\.saving-|^\.removing-|\.tmp\.|\.writing$|\.old$")
PEER_FAILED, IO, STOPPED = 6, 5, 75
LIMIT_SECONDS = 30
TIMEOUT = 150
STEPS = 120  # the ranks do one in a few ms: a signal at a step below the last third finds them at work

RECIPE = """
seed = 7
output_dir = "{output}"
[model]
path = "{fixtures}/models/llama"
[dataset]
type = "pretokenized"
path = "{data}"
[dataloader]
shuffle = true
[step_scheduler]
global_batch_size = 4
local_batch_size = 1
max_steps = {steps}
ckpt_every_steps = {every}
[optimizer]
{optimizer}
lr = 1e-3
[lr_scheduler]
type = "cosine"
warmup_steps = 3
[dist_env]
peer_timeout_seconds = {peer_timeout}
[checkpoint]
is_async = {is_async}
[distributed]
{distributed}
"""
OPTIMIZERS = ['type = "adamw"', 'type = "muon"', 'type = "adafactor"', 'type = "adamw_8bit"\nmin_8bit_size = 1024\nblock_size = 96']

DDP, FSDP = 'type = "ddp"', 'type = "fsdp2"'
HSDP = 'type = "fsdp2"\ndp_replicate_size = 2'
TP = 'type = "fsdp2"\ntp_size = 2\nsequence_parallel = true'


class Run:
    """A recipe with an output folder of its own."""

    def __init__(self, options, output, steps=12, every=4, distributed=FSDP, peer_timeout=20, optimizer=OPTIMIZERS[0]):
        self.options, self.output = options, output
        output.parent.mkdir(parents=True, exist_ok=True)
        self.recipe = output.with_suffix(".toml")
        data = options.fixtures / "training" / "grad_accumulation" / "data.safetensors"
        self.recipe.write_text(RECIPE.format(output=output, fixtures=options.fixtures, data=data, steps=steps, every=every,
                                             distributed=distributed, peer_timeout=peer_timeout, optimizer=optimizer,
                                             is_async=str(options.is_async).lower()))

    def start(self, ranks, environment=None, resume="auto"):
        command = [self.options.program, "train", str(self.recipe), "--quiet", "--resume", resume]
        if ranks > 1:
            command += ["--nproc-per-node", str(ranks)]
        return subprocess.Popen(command, env=dict(os.environ, OMP_NUM_THREADS="1", **(environment or {})),
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def finish(self, process):
        try:
            out, err = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            sys.exit("the run did not end")
        return process.returncode, out + err

    def train(self, ranks, **more):
        code, text = self.finish(self.start(ranks, **more))
        if code != 0:
            sys.exit(f"training on {ranks} ranks ended with {code}\n{text}")
        return self.curve()

    def curve(self):
        lines = [json.loads(line) for line in (self.output / "training.jsonl").read_text().splitlines()]
        return [(line["step"], line["loss"], line["grad_norm"], line["num_label_tokens"]) for line in lines]

    def steps_done(self):
        log = self.output / "training.jsonl"
        return log.read_text().count("\n") if log.exists() else 0

    def leftovers(self):
        return [path for path in self.output.rglob("*") if LEFTOVER.search(path.name)]

    def weights(self):
        return (self.output / "final" / "model.safetensors").read_bytes()


def children(process):
    """Ranks of a launcher: their process numbers, in the order of their ranks."""
    path = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(word) for word in path.read_text().split()]


def require(condition, text):
    if not condition:
        sys.exit("FAILED: " + text)


def wait_for(condition, what):
    end = time.monotonic() + TIMEOUT
    while not condition():
        require(time.monotonic() < end, f"waited in vain for {what}")
        time.sleep(0.002)


def reference(options, work, ranks, distributed):
    run = Run(options, work / f"alone_{ranks}", steps=STEPS, every=STEPS // 8, distributed=distributed)
    return run.train(ranks), run.weights()


def kills(options, work):
    ranks, rng = 3, random.Random(options.seed)
    curve, weights = reference(options, work, ranks, FSDP)
    for number in range(options.kills):
        run = Run(options, work / f"killed_{number}", steps=STEPS, every=STEPS // 8)
        process = run.start(ranks)
        at = rng.randrange(0, STEPS * 2 // 3)
        wait_for(lambda: run.steps_done() >= at or process.poll() is not None, f"step {at}")
        victim = rng.randrange(ranks)
        require(len(children(process)) == ranks, "the run ended before it was to be killed")
        time.sleep(rng.random() * 0.05)
        os.kill(children(process)[victim], signal.SIGKILL)
        killed_at = time.monotonic()
        code, text = run.finish(process)
        seconds = time.monotonic() - killed_at
        print(f"rank {victim} killed after step {at}: ended with {code} after {seconds:.1f} s")
        require(code == PEER_FAILED and f"rank {victim} was ended by a signal" in text, f"exit code {code}:\n{text}")
        require(seconds < LIMIT_SECONDS, f"the others took {seconds:.1f} s")
        require(run.train(ranks) == curve, "the resumed run takes another path")
        require(run.weights() == weights, "the resumed run ends with other weights")
        require(not run.leftovers(), f"left behind: {run.leftovers()}")


def hang(options, work):
    for victim in (1, 0):
        run = Run(options, work / f"hang_{victim}", steps=100000, every=100000, peer_timeout=3)
        process = run.start(2)
        wait_for(lambda: run.steps_done() >= 3, "some steps")
        stopped = children(process)[victim]
        os.kill(stopped, signal.SIGSTOP)
        begin = time.monotonic()
        code, text = run.finish(process)
        seconds = time.monotonic() - begin
        print(f"rank {victim} stopped: ended with {code} after {seconds:.1f} s\n{text.strip()}")
        require(seconds < LIMIT_SECONDS, f"it took {seconds:.1f} s")
        require(code == PEER_FAILED and f"rank {victim}" in text, f"exit code {code}")


def signals(options, work):
    curve, weights = reference(options, work, 2, FSDP)
    run = Run(options, work / "signalled", steps=STEPS, every=1000)
    process = run.start(2)
    wait_for(lambda: run.steps_done() >= 3, "some steps")
    process.send_signal(signal.SIGTERM)
    code, text = run.finish(process)
    require(code == STOPPED, f"exit code {code}\n{text}")
    require(3 <= run.steps_done() < STEPS, f"{run.steps_done()} steps")
    require(run.train(2) == curve and run.weights() == weights, "the resumed run takes another path")


def full_disk(options, work):
    curve, weights = reference(options, work, 2, FSDP)
    for at in options.full_at:
        run = Run(options, work / f"full_{at}", steps=STEPS, every=STEPS // 8)
        environment = {"LD_PRELOAD": str(options.library), "FAULT_FOLDER": str(run.output / "checkpoints"),
                       "FAULT_AT": str(at), "FAULT_KIND": "enospc"}
        code, text = run.finish(run.start(2, environment=environment))
        print(f"disk full at call {at}: ended with {code}")
        require(code == IO and "No space left" in text, f"exit code {code}\n{text}")
        require(run.train(2) == curve and run.weights() == weights, "the resumed run takes another path")
        require(not run.leftovers(), f"left behind: {run.leftovers()}")


def damaged(options, work):
    run = Run(options, work / "damaged", steps=8, every=4)
    run.train(2)
    other = Run(options, work / "other", steps=8, every=4)
    other.train(2)
    whole = run.output / "checkpoints" / "step-00000004"
    name = "rank-00001-of-00002.safetensors"

    def refused(change, expected):
        broken = work / "broken"
        shutil.rmtree(broken, ignore_errors=True)
        shutil.copytree(whole, broken)
        change(broken / name)
        code, text = run.finish(run.start(2, resume=str(broken)))
        print(f"{expected}: ended with {code}")
        require(code == 2 and expected in text, f"exit code {code}, expected '{expected}'\n{text}")

    refused(lambda path: path.unlink(), "a file of the checkpoint is missing")
    refused(lambda path: path.write_bytes(path.read_bytes()[:-100]), name)
    theirs = other.output / "checkpoints" / "step-00000004" / name
    refused(lambda path: path.write_bytes(theirs.read_bytes()), "a file belongs to another checkpoint")
    refused(lambda path: (path.parent / "manifest.json").write_text("{"), "manifest.json")


ARRANGEMENTS = {"one": (1, DDP), "ddp2": (2, DDP), "ddp3": (3, DDP), "fsdp2": (2, FSDP), "fsdp3": (3, FSDP), "hsdp4": (4, HSDP),
                "tp4": (4, TP)}


def reshard(options, work):
    """Each arrangement resumes the checkpoints of each other; the optimizers take turns in the pairs, or with --all meet in all."""
    steps, half = 12, 6
    worst = 0.0
    for number, optimizer in enumerate(OPTIMIZERS):
        alone = Run(options, work / f"alone_{number}", steps=steps, every=half, distributed=DDP, optimizer=optimizer)
        curve = alone.train(1)
        for i, (name, (ranks, distributed)) in enumerate(ARRANGEMENTS.items()):
            source = Run(options, work / f"{name}_{number}", steps=steps, every=half, distributed=distributed, optimizer=optimizer)
            source.train(ranks)
            checkpoint = source.output / "checkpoints" / f"step-{half:08d}"
            for j, (other, (other_ranks, other_distributed)) in enumerate(ARRANGEMENTS.items()):
                if (i + j) % len(OPTIMIZERS) != number and not options.all:
                    continue
                run = Run(options, work / f"{name}_{other}", steps=steps, every=1000, distributed=other_distributed,
                          optimizer=optimizer)
                run.train(other_ranks, resume=str(checkpoint))
                worst = max(worst, same_curve(f"{name} to {other}, {optimizer}", run.curve(), curve[half:]))
                shutil.rmtree(run.output)
    print(f"{len(ARRANGEMENTS)} x {len(ARRANGEMENTS)} arrangements, largest relative difference {worst:.1e}")


def same_curve(what, ours, theirs):
    require([line[0] for line in ours] == [line[0] for line in theirs], f"{what}: steps {ours}")
    worst = 0.0
    for line, want in zip(ours, theirs):
        require(line[3] == want[3], f"{what}: other data in step {line[0]}")
        for a, b, limit in ((line[1], want[1], 1e-5), (line[2], want[2], 1e-4)):
            worst = max(worst, abs(a - b) / abs(b))
            require(abs(a - b) <= limit * abs(b), f"{what}, step {line[0]}: {a}, alone {b}")
    return worst


def background(options, work):
    """Checkpoints that are written while training goes on are those that are written while it waits."""
    for ranks, distributed in ((1, DDP), (3, FSDP)):
        options.is_async = False
        waited = Run(options, work / f"waited_{ranks}", steps=STEPS, every=STEPS // 8, distributed=distributed)
        curve, weights = waited.train(ranks), waited.weights()
        options.is_async = True
        run = Run(options, work / f"background_{ranks}", steps=STEPS, every=STEPS // 8, distributed=distributed)
        require(run.train(ranks) == curve and run.weights() == weights, f"{ranks} ranks: another curve")
        require(not run.leftovers(), f"left behind: {run.leftovers()}")
        for step in (STEPS // 8 * 7, STEPS):
            ours, theirs = (r.output / "checkpoints" / f"step-{step:08d}" for r in (run, waited))
            for path in theirs.glob("*.safetensors"):
                require(tensors_of(path) == tensors_of(ours / path.name), f"{ranks} ranks: another {path}")
    options.kills = min(options.kills, 2)
    kills(options, work)
    full_disk(options, work)


def tensors_of(path):
    """The data of a safetensors file; the names of its tensors are in the rest."""
    content = path.read_bytes()
    return content[8 + int.from_bytes(content[:8], "little"):]


def export(options, work):
    """The model of a checkpoint is that which the run exports at its end, whoever wrote it."""
    for name in ("one", "ddp3", "fsdp3", "tp4"):
        ranks, distributed = ARRANGEMENTS[name]
        run = Run(options, work / name, steps=4, every=2, distributed=distributed)
        run.train(ranks)
        subprocess.run([options.program, "export", str(run.output), "--output", str(work / f"{name}_out")], check=True)
        require((work / f"{name}_out" / "model.safetensors").read_bytes() == run.weights(), f"{name}: another model")
        half = work / f"{name}_half"
        subprocess.run([options.program, "export", str(run.output / "checkpoints" / "step-00000002"), "--output", str(half)],
                       check=True)
        require((half / "model.safetensors").read_bytes() != run.weights(), f"{name}: the same model two steps before")


def estimate(options, work):
    """What a rank would hold and send, against what the strategies are made for."""
    def figures(distributed, world):
        run = Run(options, work / "planned", distributed=distributed)
        result = subprocess.run([options.program, "estimate", str(run.recipe), "--world", str(world), "--json"], check=True,
                                capture_output=True, text=True)
        require(not run.output.exists(), "planning wrote something")
        figures = json.loads(result.stdout)
        return figures["memory_of_a_rank"], figures["communication_of_a_step"]

    whole, nothing = figures(DDP, 1)
    require(nothing["bytes_sent"] == 0, "one process sends something")
    _, sent = figures(DDP, 4)
    gradients = 2 * 3 / 4 * whole["gradients"]
    require(gradients <= sent["bytes_sent"] <= 1.02 * gradients + 1000, f"ddp sends {sent}, gradients {gradients}")
    for world in (2, 4, 1024):
        memory, sent = figures(FSDP, world)
        for part in ("parameters", "gradients", "optimizer"):
            # Runs of rows are rounded up, to a row of each parameter at least.
            require(memory[part] <= whole[part] / world * 1.1 + 10000, f"{part} of {world} ranks: {memory}, alone {whole}")
    require(sent["by_collective"]["all_gather"]["calls"] > 0, f"nothing is gathered: {sent}")
    memory, _ = figures(TP, 4)
    require(memory["parameters"] <= whole["parameters"] / 2, f"tensor parallel: {memory}, alone {whole}")


def errors(options, work):
    """A recipe that is wrong is refused once; what only a rank meets is told with its rank."""
    run = Run(options, work / "wrong", distributed='type = "fsdp2"\ntp_size = 3\ndp_size = 7')
    code, text = run.finish(run.start(2))
    require(code == 2 and "distributed.tp_size" in text and "distributed.dp_size" in text, f"exit code {code}\n{text}")
    run = Run(options, work / "unknown", distributed='type = "fsdp2"\nno_such_key = 1')
    code, text = run.finish(run.start(3))
    require(code == 2 and text.count("no_such_key'") == 1, f"exit code {code}\n{text}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["kills", "hang", "signals", "full_disk", "damaged", "reshard", "background", "export", "estimate",
                                         "errors"])
    parser.add_argument("--program", required=True)
    parser.add_argument("--library", type=pathlib.Path)
    parser.add_argument("--fixtures", type=pathlib.Path, required=True)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--full-at", type=int, nargs="*", default=[2, 9])
    parser.add_argument("--all", action="store_true", help="reshard: every pair with every optimizer")
    options = parser.parse_args()
    options.is_async = False
    options.fixtures = options.fixtures.resolve()
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory() as folder:
        globals()[options.what](options, pathlib.Path(folder))
    print("ok")


if __name__ == "__main__":
    main()
