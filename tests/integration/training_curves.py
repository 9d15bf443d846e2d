#!/usr/bin/env python3
"""Trains on each golden recipe with the program and compares the run with the reference, step by step.

    training_curves.py ESPALIER FIXTURES [NAME ...]

Loss within 1e-5 relative + 20 x drift, gradient norm within 1e-4 relative + 20 x drift, learning rate within 1e-7
relative, final weights within 1e-4 of the largest + 20 x drift; for bf16 the loss alone, within 0.15.
"""
import json
import math
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

CURVES = ["full_adamw", "full_adamw_tied", "adam_l2", "sgd_plain", "sgd_momentum", "no_decay_groups",
          "grad_accumulation", "packed", "bf16_params", "moe_aux_loss", "lora_adamw", "dora_adamw"]
FORMATS = {"F32": ("f", 4), "I64": ("q", 8)}


def read_safetensors(path):
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + size])
    header.pop("__metadata__", None)
    tensors = {}
    for name, info in header.items():
        begin, end = info["data_offsets"]
        data = raw[8 + size + begin:8 + size + end]
        if info["dtype"] == "BF16":
            values = [struct.unpack("<f", b"\0\0" + data[i:i + 2])[0] for i in range(0, len(data), 2)]
        else:
            code, width = FORMATS[info["dtype"]]
            values = struct.unpack(f"<{len(data) // width}{code}", data)
        tensors[name] = (info["shape"], values)
    return tensors


def write_int64(path, tensors):
    header, data = {}, b""
    for name, (shape, values) in tensors.items():
        packed = struct.pack(f"<{len(values)}q", *values)
        header[name] = {"dtype": "I64", "shape": shape, "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def data_file(folder, recipe, work):
    """The fixture's data; packed recipes get the boundaries of their documents added."""
    source = folder / "data.safetensors"
    if not recipe.get("packed"):
        return source
    tensors = read_safetensors(source)
    shape = tensors["input_ids"][0]
    edges = [0]
    for length in recipe["packed"]:
        edges.append(edges[-1] + length)
    rows = math.prod(shape[:-1])
    tensors["cu_seqlens"] = (shape[:-1] + [len(edges)], edges * rows)
    target = work / "data.safetensors"
    write_int64(target, tensors)
    return target


def model_folder(folder, recipe, work):
    """The recipe's model; with a weight for the load-balancing loss it gets a config that asks for it."""
    base = (folder / recipe["base"]).resolve()
    if not recipe.get("aux_loss_coef"):
        return base
    target = work / "model"
    shutil.copytree(base, target)
    config = json.loads((base / "config.json").read_text())
    config.update(output_router_logits=True, router_aux_loss_coef=recipe["aux_loss_coef"])
    (target / "config.json").unlink()
    (target / "config.json").write_text(json.dumps(config))
    return target


def toml_value(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value)


def recipe_text(folder, recipe, work):
    optimizer = dict(recipe["optimizer"])
    lines = [f'output_dir = "{work / "run"}"', "[model]", f'path = "{model_folder(folder, recipe, work)}"',
             f'dtype = "{recipe["dtype"]}"', "[dataset]", 'type = "pretokenized"',
             f'path = "{data_file(folder, recipe, work)}"', "[step_scheduler]",
             f'global_batch_size = {recipe["batch_size"] * recipe["micro_batches"]}',
             f'local_batch_size = {recipe["batch_size"]}', f'max_steps = {recipe["steps"]}', "[clip_grad_norm]",
             f'max_norm = {recipe["clip_norm"] or 0.0}', "[optimizer]", f'type = "{optimizer.pop("name")}"']
    lines += [f"{key} = {toml_value(value)}" for key, value in optimizer.items()]
    if recipe.get("no_decay"):
        patterns = [f"*{word}*" for word in recipe["no_decay"]]
        lines.append(f"param_groups = [{{patterns = {json.dumps(patterns)}, weight_decay = 0.0}}]")
    if "initial_adapter" in recipe:
        lines += ["[peft]", 'type = "lora"', f'path = "{(folder / recipe["initial_adapter"]).resolve()}"']
    schedule = recipe["schedule"]
    lines += ["[lr_scheduler]", f'type = "{schedule["name"]}"']
    if "warmup_steps" in schedule:
        lines += [f'warmup_steps = {schedule["warmup_steps"]}', f'decay_steps = {schedule["total_steps"]}']
    if "min_lr" in schedule:
        lines.append(f'min_lr = {schedule["min_lr"]}')
    return "\n".join(lines) + "\n"


def check(failures, what, actual, expected, limit):
    if not abs(actual - expected) <= limit:
        failures.append(f"{what}: {actual!r}, reference {expected!r}, off by {abs(actual - expected):.2e}, limit {limit:.2e}")


def compare_steps(run, folder, recipe):
    reference = json.loads((folder / "losses.json").read_text())
    lines = [json.loads(line) for line in (run / "training.jsonl").read_text().splitlines()]
    failures = [] if len(lines) == len(reference) else [f"{len(lines)} steps, reference {len(reference)}"]
    drift, bf16 = recipe["drift"], recipe["dtype"] == "bfloat16"
    for line, want in zip(lines, reference):
        step = f"step {line['step']}"
        loss_limit = 0.15 if bf16 else 1e-5 * abs(want["loss"]) + 20 * drift["loss"]
        check(failures, step + " loss", line["loss"], want["loss"], loss_limit)
        check(failures, step + " lr", line["lr"], want["lr"], 1e-7 * abs(want["lr"]))
        check(failures, step + " label tokens", line["num_label_tokens"], want["label_tokens"], 0)
        if not bf16:
            check(failures, step + " grad_norm", line["grad_norm"], want["grad_norm"],
                  1e-4 * want["grad_norm"] + 20 * drift["grad_norm"])
    return failures


def compare_weights(run, folder, recipe):
    if recipe["dtype"] == "bfloat16":
        return []
    name = "adapter_model.safetensors" if "initial_adapter" in recipe else "model.safetensors"
    actual = read_safetensors(run / "final" / name)
    failures = []
    for name, (shape, want) in read_safetensors(folder / "final.safetensors").items():
        if name not in actual or actual[name][0] != shape:
            failures.append(f"{name} is missing or has another shape")
            continue
        limit = 1e-4 * max(map(abs, want)) + 20 * recipe["drift"]["weights"]
        worst = max(abs(a - b) for a, b in zip(actual[name][1], want))
        check(failures, name, worst, 0.0, limit)
    return failures


def main():
    program, fixtures = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
    names = sys.argv[3:] or CURVES
    bad = 0
    for name in names:
        folder = fixtures / "training" / name
        recipe = json.loads((folder / "recipe.json").read_text())
        with tempfile.TemporaryDirectory() as work:
            work = pathlib.Path(work)
            (work / "recipe.toml").write_text(recipe_text(folder, recipe, work))
            subprocess.run([program, "train", str(work / "recipe.toml"), "--quiet"], check=True)
            failures = compare_steps(work / "run", folder, recipe) + compare_weights(work / "run", folder, recipe)
        print(f"{name}: {'ok' if not failures else 'DIFFERS'}")
        for failure in failures[:10]:
            print("   ", failure)
        bad += bool(failures)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
