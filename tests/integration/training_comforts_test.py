#!/usr/bin/env python3
"""What looks after a run: training_comforts_test.py ESPALIER FIXTURES CASE...

Early stopping, the best checkpoint, averages of weights, statistics, samples, and numbers that are not finite: each says
the truth, none changes what is learnt, and a run that was interrupted comes to the same bits with all of them.
"""

import array
import json
import math
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile

from training_curves import read_safetensors

PROGRAM, FIXTURES = sys.argv[1], pathlib.Path(sys.argv[2])
STEPS = 12


def run(*words, code=0):
    result = subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True)
    assert result.returncode == code, (words, result.returncode, result.stderr[-3000:])
    return result


def text_model(work):
    """A small model with a tokenizer and a chat template."""
    folder = work / "model"
    if not folder.exists():
        shutil.copytree(FIXTURES / "tokenizers" / "smollm", folder)
        config = json.loads((FIXTURES / "models" / "llama" / "config.json").read_text())
        config["vocab_size"] = 1024
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def recipe(work, name, sections="", optimizer='type = "adamw"\nlr = 0.01', steps=STEPS, every="val_every_steps = 2",
           validation=True, model=None, shuffle="true", keep=2):
    path = work / f"{name}.toml"
    model = f'path = "{model}"' if model else f'path = "{text_model(work)}"\nfrom_config = true'
    path.write_text(f'''output_dir = "{work / name}"
[model]
{model}
[dataset]
type = "mock"
vocab_size = 256
seq_length = 16
num_samples = 40
[dataloader]
shuffle = {shuffle}
{"[validation_dataset]" if validation else "[logger]"}
{"vocab_size = 256" if validation else 'type = "csv"'}
{"seq_length = 16" if validation else ""}
{"num_samples = 6" if validation else ""}
[step_scheduler]
global_batch_size = 4
local_batch_size = 2
max_steps = {steps}
ckpt_every_steps = 4
{every}
[optimizer]
{optimizer}
[checkpoint]
max_recent_checkpoints = {keep}
{sections}''')
    return path


# The best of all is the first look: what a resumed run forgets of it shows.
ALL = '''best_metric = "validation.loss"
best_mode = "max"
[early_stopping]
patience = 5
[ema]
decay = 0.8
[statistics]
every = 3
[generation_samples]
prompts = ["Once upon a time", "The dog"]
temperature = 0.9
max_new_tokens = 5
'''


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def curve(folder):
    return [(line["step"], line["loss"], line["grad_norm"], line["lr"]) for line in lines(folder / "training.jsonl")]


def floats(path):
    """name -> (shape, array of float32) of a safetensors file."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + size])
    result = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        assert entry["dtype"] == "F32", (name, entry)
        begin, end = entry["data_offsets"]
        result[name] = array.array("f", data[8 + size + begin:8 + size + end])
    return result


def check_changes_nothing(work):
    run("train", recipe(work, "plain"), "--quiet")
    run("train", recipe(work, "all", ALL), "--quiet")
    assert curve(work / "plain") == curve(work / "all")
    assert (work / "plain/final/model.safetensors").read_bytes() == (work / "all/final/model.safetensors").read_bytes()
    plain = work / "plain"
    for name in ["samples.jsonl", "statistics.jsonl", "final_ema", "checkpoints/best"]:
        assert (work / "all" / name).exists() and not (plain / name).exists(), name
    assert "ema_loss" not in (plain / "validation.jsonl").read_text()


def without_times(folder):
    """Everything that a run wrote and that should be the same each time."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or path.name in ("plugins.lock", "recipe.resolved.toml", "run.json"):
            continue
        if path.name == "manifest.json" or path.name.startswith("rank-"):  # these hold the path of the run folder
            continue
        if path.name == "state.json":  # the number of steps that the run wants to make differs on purpose
            found[name] = {k: v for k, v in json.loads(path.read_text()).items() if k != "total_steps"}
        elif path.suffix == ".jsonl":
            found[name] = [{k: v for k, v in line.items() if not any(word in k for word in ("second", "rss", "memory"))}
                           for line in lines(path)]
        else:
            found[name] = path.read_bytes()
    return found


def check_resumes(work):
    """From each checkpoint, and with a best one that came after it, the run ends at the same bits."""
    for name, sections, further in [("all", ALL, []), ("ema_lora", '[ema]\ndecay = 0.5\n[peft]\ntype = "lora"\ndim = 2\n'
                                     'dropout = 0.1\ntarget_modules = ["*q_proj"]\n', []),
                                    ("sharded", ALL + '[distributed]\ntype = "fsdp2"\n', ["--nproc-per-node", "2"])]:
        whole = recipe(work, name + "_whole", sections)
        run("train", whole, "--quiet", *further)
        want = without_times(work / (name + "_whole"))
        run("export", work / (name + "_whole"), "--ema", "--output", work / f"{name}_average")
        for path in (work / f"{name}_average").glob("*.safetensors"):
            assert path.read_bytes() == want["final_ema/" + path.name], (name, path.name)
        for step in (4, 6, 9):
            part = name + f"_{step}"
            cut = recipe(work, part, sections)
            # A signal comes at any moment; so does a kill after the log and before the next checkpoint.
            run("train", cut, "--quiet", f"--step_scheduler.max_steps={step}", *further)
            for folder in ("final", "final_ema"):
                shutil.rmtree(work / part / folder, ignore_errors=True)
            if step == 9:  # the checkpoint at the end goes too: steps and a best one after the last checkpoint
                shutil.rmtree(work / part / "checkpoints" / "step-00000009")
            run("train", cut, "--quiet", *further)
            got = without_times(work / part)
            # A run that ended at 6 has looked there at its end, and so has the whole one.
            if step != 9:
                for key in list(got):
                    if "LATEST" not in key and key not in want:
                        del got[key]
            assert sorted(got) == sorted(want), (name, step, sorted(set(got) ^ set(want)))
            for key in want:
                assert got[key] == want[key], (name, step, key)


def check_early_stopping(work):
    # Nothing gets better with a rate of 0: the first look is the best, and two more are one too many.
    still = 'type = "sgd"\nlr = 0.0'
    path = recipe(work, "still", "[early_stopping]\npatience = 2\n", still)
    out = run("train", path).stdout
    assert curve(work / "still")[-1][0] == 6 and "stopped early after step 6" in out, out
    assert json.loads((work / "still/run.json").read_text())["ended"] == "stopped early after step 6"
    assert (work / "still/final/model.safetensors").exists()
    assert (work / "still/checkpoints/LATEST").read_text() == "step-00000006\n"
    run("train", path, "--quiet")  # it has ended: nothing more happens
    assert curve(work / "still")[-1][0] == 6
    # The state of the watch is part of the checkpoint.
    part = recipe(work, "still_part", "[early_stopping]\npatience = 2\n", still)
    run("train", part, "--quiet", "--step_scheduler.max_steps=4")
    run("train", part, "--quiet")
    assert curve(work / "still_part")[-1][0] == 6
    # While it gets better it goes on, unless that is too little; more of the loss is no gain by "max".
    for name, keys, last in [("goes_on", "", 12), ("delta", "min_delta = 100.0\n", 6), ("max", 'mode = "max"\n', 6)]:
        run("train", recipe(work, name, f"[early_stopping]\npatience = 2\n{keys}"), "--quiet")
        assert curve(work / name)[-1][0] == last, (name, curve(work / name)[-1])
    # A number of the training log, without any validation: looked at where checkpoints are written.
    run("train", recipe(work, "by_lr", '[early_stopping]\npatience = 1\nmetric = "training.lr"\n', still, every="",
                        validation=False), "--quiet")
    assert curve(work / "by_lr")[-1][0] == 8
    for name, sections, words in [
            ("unknown_log", '[early_stopping]\npatience = 1\nmetric = "validation_news.loss"\n', "in no log of this run"),
            ("unknown_number", '[early_stopping]\npatience = 1\nmetric = "validation.los"\n', "did you mean 'loss'"),
            ("no_key", '[early_stopping]\npatience = 1\nmetric = "validation."\n', "in no log of this run")]:
        assert words in run("train", recipe(work, name, sections), "--quiet", code=2).stderr
    blind = recipe(work, "blind", "[early_stopping]\npatience = 1\n", every="")
    assert "nothing to look at" in run("train", blind, "--quiet", code=2).stderr


def check_best_checkpoint(work):
    path = recipe(work, "best", 'best_metric = "training.grad_norm"\nbest_mode = "max"\n', every="", validation=False,
                  steps=20, keep=10)
    run("train", path, "--quiet")
    norms = {step: norm for step, _, norm, _ in curve(work / "best") if step % 4 == 0}
    step = max(norms, key=norms.get)
    checkpoints = work / "best/checkpoints"
    best = json.loads((checkpoints / "best/state.json").read_text())
    assert best["step"] == step and best["best"]["best"] == norms[step], (best, norms)
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (checkpoints / "best" / name).read_bytes() == (checkpoints / f"step-{step:08}" / name).read_bytes()
    assert [p.name for p in checkpoints.glob("best-*")] == [f"best-{step:08}"]
    run("export", checkpoints / "best", "--output", work / "exported")
    trained = floats(checkpoints / "best/model.safetensors")
    exported = floats(work / "exported/model.safetensors")
    assert all(exported[name] == trained[name] for name in trained)
    # From a best one in the future of the checkpoint that is gone on from, nothing stays.
    run("train", path, "--quiet", "--resume", checkpoints / f"step-{4:08}", "--step_scheduler.max_steps=5",
        "--optimizer.lr=0.0")
    assert json.loads((checkpoints / "best/state.json").read_text())["step"] <= 5
    assert len(list(checkpoints.glob("best-*"))) == 1
    run("train", path, "--quiet", "--resume", "never", "--step_scheduler.max_steps=3", "--checkpoint.best_metric=")
    assert not (checkpoints / "best").is_symlink() and not list(checkpoints.glob("best-*"))
    off = recipe(work, "off", 'enabled = false\nbest_metric = "validation.loss"\n')
    assert "checkpoints are off" in run("train", off, "--quiet", code=2).stderr


def check_average(work):
    """The average is what its formula says, validation shows its loss, and it is exported at the end and on demand."""
    sections = "[ema]\ndecay = 0.75\n"
    path = recipe(work, "average", sections, keep=20, every="val_every_steps = 6\nval_at_start = true", steps=6)
    run("train", path, "--quiet", "--step_scheduler.ckpt_every_steps=1")
    folder = work / "average"
    start = recipe(work, "start", "", steps=1, optimizer='type = "sgd"\nlr = 0.0')
    run("train", start, "--quiet")
    average = {name: list(values) for name, values in floats(work / "start/final/model.safetensors").items()}
    for step in range(1, 7):
        weights = floats(folder / f"checkpoints/step-{step:08}/model.safetensors")
        for name, values in weights.items():
            average[name] = [0.75 * a + 0.25 * w for a, w in zip(average[name], values)]
    saved = floats(folder / "checkpoints/step-00000006/average.safetensors")
    for name, values in average.items():
        largest = max(map(abs, values))
        assert max(abs(a - b) for a, b in zip(values, saved[name])) <= 1e-6 * largest, name
    run("export", folder, "--ema", "--output", work / "on_demand")
    for exported in (folder / "final_ema", work / "on_demand"):
        tensors = floats(exported / "model.safetensors")
        assert all(tensors[name] == saved[name] for name in saved), exported
    assert floats(folder / "final/model.safetensors") != floats(folder / "final_ema/model.safetensors")
    validation = lines(folder / "validation.jsonl")
    again = recipe(work, "again", model=folder / "final_ema", every="val_every_steps = 6\nval_at_start = true", steps=1)
    run("train", again, "--quiet")
    assert lines(work / "again/validation.jsonl")[0]["loss"] == validation[-1]["ema_loss"]
    assert validation[0]["ema_loss"] == validation[0]["loss"], "before the first step both are the same"
    # Turned on later it begins with the weights of then; a run without has none to export.
    later = recipe(work, "later", "", steps=4)
    run("train", later, "--quiet")
    assert "no average" in run("export", work / "later", "--ema", "--output", work / "none", code=2).stderr
    run("train", recipe(work, "later", sections, steps=5), "--quiet")
    before = floats(work / "later/checkpoints/step-00000004/model.safetensors")
    after = floats(work / "later/checkpoints/step-00000005/model.safetensors")
    for name, values in floats(work / "later/checkpoints/step-00000005/average.safetensors").items():
        want = [0.75 * a + 0.25 * w for a, w in zip(before[name], after[name])]
        assert max(abs(a - b) for a, b in zip(want, values)) <= 1e-6 * max(map(abs, want)), name
    off = recipe(work, "not_exported", sections + "export = false\nvalidate = false\n", steps=2)
    run("train", off, "--quiet")
    assert not (work / "not_exported/final_ema").exists()
    assert "ema_loss" not in (work / "not_exported/validation.jsonl").read_text()


def check_statistics(work):
    """Norms of blocks make up the norm of the step; ranks that share the work say the same as one."""
    sections = "[statistics]\nevery = 3\n"
    run("train", recipe(work, "alone", sections), "--quiet")
    norms = {step: norm for step, _, norm, _ in curve(work / "alone")}
    alone = {line["step"]: line for line in lines(work / "alone/statistics.jsonl")}
    assert sorted(alone) == [3, 6, 9, 12]
    for step, line in alone.items():
        total = math.sqrt(sum(block["norm"] ** 2 for block in line["gradients"].values()))
        assert math.isclose(total, norms[step], rel_tol=1e-6), (step, total, norms[step])
        assert list(line["gradients"])[:2] == ["model.embed_tokens", "model.layers.0"], line
        for kind in ("gradients", "activations"):
            for block in line[kind].values():
                assert 0 <= block["zeros"] <= 1 and block["max"] > 0, line
    # Rows of the embedding that no token of the step is of have no gradient.
    assert alone[3]["gradients"]["model.embed_tokens"]["zeros"] > 0.9
    for name, distributed in [("ddp", 'type = "ddp"'), ("fsdp2", 'type = "fsdp2"'), ("tp", 'type = "fsdp2"\ntp_size = 2')]:
        path = recipe(work, name, sections + f"[distributed]\n{distributed}\n")
        run("train", path, "--quiet", "--nproc-per-node", "2")
        for line in lines(work / name / "statistics.jsonl"):
            for block, want in alone[line["step"]]["gradients"].items():
                got = line["gradients"][block]
                for key in want:
                    assert math.isclose(got[key], want[key], rel_tol=2e-3, abs_tol=1e-6), (name, line["step"], block, key)
    run("train", recipe(work, "no_activations", sections + "activations = false\n", steps=3), "--quiet")
    assert "activations" not in lines(work / "no_activations/statistics.jsonl")[0]


def check_samples(work):
    """What is written is what `generate` writes with the weights of that step."""
    (work / "chats.jsonl").write_text('{"messages": [{"role": "user", "content": "Hi"}]}\n{"prompt": "A cat"}\n')
    sections = f'[generation_samples]\nprompts = "Once upon a time"\nfile = "{work}/chats.jsonl"\nmax_new_tokens = 6\n'
    cases = [("alone", "", []), ("lora", '[peft]\ntype = "lora"\ndim = 2\ndropout = 0.5\ntarget_modules = ["*_proj"]\n', [])]
    for name, strategy in [("ddp", 'type = "ddp"'), ("fsdp2", 'type = "fsdp2"'), ("tp", 'type = "fsdp2"\ntp_size = 2')]:
        cases.append((name, f"[distributed]\n{strategy}\n", ["--nproc-per-node", "2"]))
    for name, further, words in cases:
        name = "samples_" + name
        run("train", recipe(work, name, sections + further), "--quiet", *words)
        written = lines(work / name / "samples.jsonl")
        assert [line["step"] for line in written] == [2, 4, 6, 8, 10, 12]
        last = written[-1]["samples"]
        assert [list(sample) for sample in last] == [["prompt", "answer", "ending"], ["messages", "answer", "ending"],
                                                    ["prompt", "answer", "ending"]]
        final = work / name / "final"
        model = ["--model", final]
        if "lora" in name:
            run("train", recipe(work, "base", steps=1, optimizer='type = "sgd"\nlr = 0.0'), "--quiet")
            model = ["--model", work / "base/final", "--adapter", final]
        (work / "in.jsonl").write_text("".join(json.dumps({k: v for k, v in s.items() if k in ("prompt", "messages")}) + "\n"
                                               for s in last))
        out = run("generate", *model, "--prompts", work / "in.jsonl", "--max-new-tokens", "6").stdout
        answers = [json.loads(line)["answers"][0]["text"] for line in out.splitlines()]
        assert answers == [sample["answer"] for sample in last], (name, answers, last)
    page = work / "page.html"
    run("report", work / "samples_alone", "--output", page)
    assert "Once upon a time" in page.read_text() and "user: Hi" in page.read_text()
    for name, text, words, code in [
            ("no_validation", '[generation_samples]\nprompts = "A"\n', "there are none", 2),
            ("nothing_drawn", '[generation_samples]\nprompts = "A"\ntop_k = 5\n', "nothing is drawn", 2),
            ("no_file", '[generation_samples]\nfile = "/nowhere.jsonl"\n', "/nowhere.jsonl", 5),
            ("no_tokenizer", '[generation_samples]\nprompts = "A"\n', "need a tokenizer", 2)]:
        model = FIXTURES / "models/llama" if name == "no_tokenizer" else None
        path = recipe(work, name, text, validation=name != "no_validation", model=model,
                      every="" if name == "no_validation" else "val_every_steps = 2")
        assert words in run("train", path, "--quiet", code=code).stderr, name
        assert not (work / name / "training.jsonl").exists(), name


def check_not_finite(work):
    """The message names step, tensor and samples, and the last good checkpoint stays."""
    llama = FIXTURES / "models/llama"
    sgd = 'type = "sgd"\nlr = 0.1'
    path = recipe(work, "blows_up", optimizer=sgd, model=llama, shuffle="false")
    run("train", path, "--quiet", "--step_scheduler.max_steps=2", "--step_scheduler.ckpt_every_steps=1")
    kept = work / "blows_up/checkpoints"
    weights = (kept / "step-00000002/model.safetensors").read_bytes()
    # Too large a rate: the weights after step 3 overflow the activations of step 4.
    error = run("train", path, "--quiet", "--optimizer.lr=1e30", code=1).stderr
    assert "of step 4 is not finite" in error, error
    assert re.search(r"first such tensor is the (in|out)put of model\.layers\.\d\.[a-z_.]+_proj", error), error
    assert "samples 12, 13 of the dataset" in error, error
    assert (kept / "step-00000002/model.safetensors").read_bytes() == weights
    assert (kept / "LATEST").read_text() == "step-00000002\n"
    # Weights that overflow themselves are not saved, and push out no good checkpoint.
    error = run("train", path, "--quiet", "--optimizer.lr=1e39", "--clip_grad_norm.max_norm=0",
                "--step_scheduler.ckpt_every_steps=1", code=1).stderr
    assert "the weights after step 3 are not finite" in error, error
    assert sorted(p.name for p in kept.glob("step-*")) == ["step-00000001", "step-00000002"]
    # Where they are not saved either, the step after that names the weight.
    error = run("train", path, "--quiet", "--optimizer.lr=1e39", "--clip_grad_norm.max_norm=0", code=1).stderr
    assert "the loss of step 4 is not finite" in error and "first such tensor is the weight model." in error, error
    # Several processes say it together, each of its own samples.
    for strategy, words in [("", []), ('[distributed]\ntype = "ddp"\n', ["--nproc-per-node", "2"]),
                            ('[distributed]\ntype = "fsdp2"\n', ["--nproc-per-node", "2"])]:
        name = "gradient" + str(len(strategy))
        error = run("train", recipe(work, name, strategy, optimizer='type = "sgd"\nlr = 1e30', model=llama, shuffle="false"),
                    "--quiet", *words, code=1).stderr
        assert "of step 2 is not finite" in error and "model.layers." in error, error
        assert re.search(r"samples? (4|6)", error), error


def main():
    checks = {name.removeprefix("check_"): check for name, check in globals().items() if name.startswith("check_")}
    for name in sys.argv[3:] or checks:
        with tempfile.TemporaryDirectory() as temporary:
            checks[name](pathlib.Path(temporary))
        print(name)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main()
