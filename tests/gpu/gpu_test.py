#!/usr/bin/env python3
"""The GPU suite of the engine: parity with the reference dumps, greedy answers, golden curves (also in bfloat16
and with the state on the host), and a killed run, all on the GPU.

    gpu_test.py parity|generation|curves|ways|resume --program build/release/bin/espalier --fixtures tests/fixtures

Tolerances are those of the CPU. Run by scripts/gpu_check.sh; needs Python's standard library alone.
"""

import argparse
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
import training_curves  # noqa: E402

KERNELS = {"LibTorch's own ops": ["--kernels.type=reference"], "the CUDA kernel pack": ["--kernels.type=cuda_kernels"]}


def run(*words, check=True):
    result = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if check and result.returncode != 0:
        print(" ".join(str(word) for word in words), result.stdout[-3000:], result.stderr[-3000:], sep="\n")
    return result


def parity(options, _):
    failed = 0
    for folder in sorted((options.fixtures / "models").iterdir()):
        if not (folder / "expected.safetensors").exists():
            continue
        result = run(options.program, "parity", "--model", folder, "--expected", folder / "expected.safetensors",
                     "--device", "cuda", "--json", check=False)
        if result.returncode not in (0, 1):
            print(f"{folder.name:20} FAILED: {result.stderr.strip()}")
            failed += 1
            continue
        rows = json.loads(result.stdout)["rows"]
        worst = max(rows, key=lambda row: row["max_abs"] / row["limit"] if row["limit"] else 0)
        failed += result.returncode
        print(f"{folder.name:20} {'ok' if result.returncode == 0 else 'PAST TOLERANCE'}, {len(rows)} comparisons, "
              f"nearest to its limit: {worst['name']} {worst['max_abs']:.2e} of {worst['limit']:.2e}")
    return failed


def generation(options, _):
    failed = 0
    for file in sorted((options.fixtures / "models").glob("*/generate.json")):
        golden = json.loads(file.read_text())
        result = run(options.program, "generate", "--model", file.parent, "--device", "cuda", "--json",
                     "--prompt-ids", ",".join(map(str, golden["prompt"])), "--max-new-tokens", golden["max_new_tokens"],
                     check=False)
        same = result.returncode == 0 and json.loads(result.stdout)["ids"] == golden["greedy"]
        failed += not same
        print(f"{file.parent.name:20} {'greedy answer equal' if same else 'DIFFERS: ' + result.stdout + result.stderr}")
    return failed


def follow_curve(options, work, name, what, words):
    """Whether a run with `words` added follows the golden curve."""
    folder = options.fixtures / "training" / name
    recipe = json.loads((folder / "recipe.json").read_text())
    place = pathlib.Path(tempfile.mkdtemp(dir=work))
    (place / "recipe.toml").write_text(training_curves.recipe_text(folder, recipe, place))
    result = run(options.program, "train", place / "recipe.toml", "--quiet", "--device=cuda", *words, check=False)
    failures = [result.stderr.strip()]
    if result.returncode == 0:
        failures = training_curves.compare_steps(place / "run", folder, recipe)
        failures += training_curves.compare_weights(place / "run", folder, recipe)
    print(f"{name:20} with {what}: {'ok' if not failures else failures[0]}")
    return not failures


def curves(options, work):
    return sum(not follow_curve(options, work, name, kernels, words)
               for kernels, words in KERNELS.items() for name in training_curves.CURVES)


def ways(options, work):
    offloaded = ["--distributed.type=fsdp2", "--distributed.cpu_offload=true"]
    failed = sum(not follow_curve(options, work, name, "weights and state on the host", offloaded)
                 for name in ("full_adamw", "packed", "lora_adamw"))
    # 16 bits: attention in documents is another kernel there. The reference's curve is that of float32.
    for name in ("full_adamw", "packed"):
        folder = options.fixtures / "training" / name
        recipe = json.loads((folder / "recipe.json").read_text())
        recipe["dtype"] = "bfloat16"
        losses = {}
        for kernels, words in KERNELS.items():
            place = pathlib.Path(tempfile.mkdtemp(dir=work))
            (place / "recipe.toml").write_text(training_curves.recipe_text(folder, recipe, place))
            run(options.program, "train", place / "recipe.toml", "--quiet", "--device=cuda", *words)
            losses[kernels] = [loss for _, (loss, _) in sorted(logged(place / "run").items())]
        first, second = losses.values()
        apart = max(abs(a - b) for a, b in zip(first, second))
        failures = training_curves.compare_steps(place / "run", folder, recipe)
        good = not failures and apart < 0.05
        failed += not good
        print(f"{name:20} in bfloat16: losses of the kernels at most {apart:.4f} from those of LibTorch's ops: "
              f"{'ok' if good else failures or 'TOO FAR'}")
    return failed


def logged(folder):
    lines = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    return {line["step"]: (line["loss"], line["grad_norm"]) for line in lines}


def resume(options, work):
    """The same bits from two runs, and from one that was killed and went on."""
    folder = options.fixtures / "training" / "full_adamw"
    recipe = json.loads((folder / "recipe.json").read_text())
    common = ["--quiet", "--device=cuda", "--kernels.type=cuda_kernels", "--step_scheduler.max_steps=400",
              "--step_scheduler.ckpt_every_steps=25", "--lr_scheduler.decay_steps=400"]
    for name in ("first", "second", "killed"):
        (work / f"{name}.toml").write_text(training_curves.recipe_text(folder, recipe, work / name))
    for name in ("first", "second"):
        run(options.program, "train", work / f"{name}.toml", *common)
    process = subprocess.Popen([options.program, "train", work / "killed.toml", *common])
    log = work / "killed" / "run" / "training.jsonl"
    while process.poll() is None and (not log.exists() or log.read_text().count("\n") < 140):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    print(f"killed after {log.read_text().count(chr(10))} of 400 steps")
    run(options.program, "train", work / "killed.toml", *common)
    first, second, killed = (logged(work / name / "run") for name in ("first", "second", "killed"))
    failed = 0
    for what, other in (("a second run", second), ("the resumed run", killed)):
        same = first == other
        failed += not same
        print(f"{what}: {'equal bit for bit' if same else 'took another path'}")
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["parity", "generation", "curves", "ways", "resume"])
    parser.add_argument("--program", required=True)
    parser.add_argument("--fixtures", required=True, type=pathlib.Path)
    options = parser.parse_args()
    options.fixtures = options.fixtures.resolve()
    with tempfile.TemporaryDirectory() as work:
        failed = globals()[options.what](options, pathlib.Path(work))
    print(f"{options.what}: {'FAILED' if failed else 'passed'}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
