#!/usr/bin/env python3
"""Runs examples/training_loop and compares its steps with the golden curve full_adamw.

    example_curve.py TRAINING_LOOP FIXTURES
"""
import json
import pathlib
import subprocess
import sys


def main():
    program, fixtures = sys.argv[1], pathlib.Path(sys.argv[2])
    folder = fixtures / "training" / "full_adamw"
    recipe = json.loads((folder / "recipe.json").read_text())
    reference = json.loads((folder / "losses.json").read_text())
    model = (folder / recipe["base"]).resolve()
    output = subprocess.run([program, str(model), str(folder / "data.safetensors"), str(recipe["steps"])],
                            check=True, capture_output=True, text=True).stdout
    lines = [[float(word) for word in line.split()] for line in output.splitlines()]
    failures = [] if len(lines) == len(reference) else [f"{len(lines)} steps, reference {len(reference)}"]
    for (step, loss, norm, lr), want in zip(lines, reference):
        limits = {"loss": (loss, 1e-5 * want["loss"] + 20 * recipe["drift"]["loss"]),
                  "grad_norm": (norm, 1e-4 * want["grad_norm"] + 20 * recipe["drift"]["grad_norm"]),
                  "lr": (lr, 1e-7 * want["lr"])}
        for name, (actual, limit) in limits.items():
            if not abs(actual - want[name]) <= limit:
                failures.append(f"step {step:.0f} {name}: {actual}, reference {want[name]}, limit {limit:.2e}")
    print("\n".join(failures) if failures else f"{len(lines)} steps equal the reference")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
