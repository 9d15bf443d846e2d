#!/usr/bin/env python3
"""The way in which a batch is cut does not change what is learnt.

    training_invariance.py ESPALIER FIXTURES

Four micro-batches of one row train as one of four; documents packed into one row train as documents in padded rows of
their own; what documents begin with alike may be computed once. Loss within 1e-6 relative at the first step, then as a
training run against its reference.
"""

import json
import pathlib
import random
import subprocess
import sys
import tempfile

from training_curves import check, read_safetensors, write_int64

STEPS = 12
IGNORED = -100
# A run that differs in its last digits drifts: the same measure as for the golden curves.
LIMITS = {"loss": 1e-5, "grad_norm": 1e-4}


def recipe(work, name, fixtures, data, local_batch):
    path = work / f"{name}.toml"
    path.write_text(f'''output_dir = "{work / name}"
[model]
path = "{fixtures}/models/llama"
[dataset]
type = "pretokenized"
path = "{data}"
[step_scheduler]
global_batch_size = 4
local_batch_size = {local_batch}
max_steps = {STEPS}
[optimizer]
type = "adamw"
lr = 1e-3
[lr_scheduler]
type = "cosine"
warmup_steps = 2
[checkpoint]
enabled = false
''')
    return path


def rows_of(tensors, name):
    """The tensor's rows of the last dimension."""
    shape, values = tensors[name]
    width = shape[-1]
    return [values[i:i + width] for i in range(0, len(values), width)]


def write_rows(path, rows):
    """{name: rows} as [batches, batch, seq] with four rows a batch."""
    tensors = {}
    for name, values in rows.items():
        values = values[:len(values) // 4 * 4]
        tensors[name] = ([len(values) // 4, 4, len(values[0])], [x for row in values for x in row])
    write_int64(path, tensors)


def packed_and_padded(source, work):
    """The same documents, of 7 and 9 tokens of each row: packed in one row, and each in a padded row of its own."""
    tensors = read_safetensors(source)
    ids, labels = rows_of(tensors, "input_ids"), rows_of(tensors, "labels")
    edges = [0, 7, len(ids[0])]
    pairs = [(i, label) for i, label in zip(ids, labels)][:4]
    packed = {"input_ids": [i for i, _ in pairs], "labels": [label for _, label in pairs],
              "cu_seqlens": [edges for _ in pairs]}
    padded = {"input_ids": [], "labels": [], "attention_mask": []}
    width = max(b - a for a, b in zip(edges, edges[1:]))
    for row, label in pairs:
        for begin, end in zip(edges, edges[1:]):
            fill = width - (end - begin)
            padded["input_ids"].append(list(row[begin:end]) + [0] * fill)
            padded["labels"].append(list(label[begin:end]) + [IGNORED] * fill)
            padded["attention_mask"].append([1] * (end - begin) + [0] * fill)
    write_rows(work / "packed.safetensors", packed)
    write_rows(work / "padded.safetensors", padded)


def write_alike(path):
    """Four packed rows of three documents each, which begin with the same ten tokens."""
    draw = random.Random(5)
    some = lambda count: [draw.randrange(3, 90) for _ in range(count)]
    start, edges = some(10), [0, 17, 31, 48]
    ids = [[token for a, b in zip(edges, edges[1:]) for token in start + some(b - a - 10)] for _ in range(8)]
    learnt = [[label if all(place >= edge + 10 or place < edge for edge in edges[:3]) else IGNORED
               for place, label in enumerate(row)] for row in ids]
    write_rows(path, {"input_ids": ids, "labels": learnt, "cu_seqlens": [edges for _ in ids]})


def shared_and_repeated(program, fixtures, work):
    """Documents that begin alike, with their beginnings computed once and for each; with dropout nothing is shared."""
    write_alike(work / "alike.safetensors")
    runs = {}
    for name, lines, more in (("shared", "", ""), ("repeated", "share_prefixes = false", ""),
                              ("dropped", "", '[peft]\ntype = "lora"\ndropout = 0.1\n')):
        path = recipe(work, name, fixtures, work / "alike.safetensors", 2)
        path.write_text(path.read_text().replace("[dataset]", lines + "\n[dataset]") + more)
        runs[name] = train(program, path)
    bad = compare("beginnings shared and repeated", runs["shared"], runs["repeated"])
    for name, computed in (("shared", 4 * 48 - 10 * 10), ("repeated", 4 * 48), ("dropped", 4 * 48)):
        for line in runs[name]:
            if (line["num_tokens"], line["num_computed_tokens"]) != (4 * 48, computed):
                print(f"{name}: step {line['step']} computed {line['num_computed_tokens']} of {line['num_tokens']} "
                      f"tokens, {computed} of {4 * 48} expected")
                bad = True
    return bad


def train(program, path):
    subprocess.run([program, "train", str(path), "--quiet"], check=True)
    run = path.with_suffix("")
    return [json.loads(line) for line in (run / "training.jsonl").read_text().splitlines()]


def compare(what, ours, theirs):
    failures = [] if len(ours) == len(theirs) == STEPS else [f"{len(ours)} and {len(theirs)} steps"]
    for a, b in zip(ours, theirs):
        for key, limit in LIMITS.items():
            limit = 1e-6 if a["step"] == 1 and key == "loss" else limit
            check(failures, f"step {a['step']} {key}", a[key], b[key], limit * abs(b[key]))
        check(failures, f"step {a['step']} label tokens", a["num_label_tokens"], b["num_label_tokens"], 0)
    print(f"{what}: {'ok' if not failures else 'DIFFERS'}")
    for failure in failures[:10]:
        print("   ", failure)
    return bool(failures)


def main():
    program, fixtures = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        source = fixtures / "training" / "grad_accumulation" / "data.safetensors"
        bad = compare("accumulation of 4 x 1 and 1 x 4", train(program, recipe(work, "four_of_one", fixtures, source, 1)),
                      train(program, recipe(work, "one_of_four", fixtures, source, 4)))
        packed_and_padded(source, work)
        packed = train(program, recipe(work, "packed", fixtures, work / "packed.safetensors", 4))
        # The same documents in twice as many rows: a step takes all of them.
        padded_recipe = recipe(work, "padded", fixtures, work / "padded.safetensors", 8)
        padded_recipe.write_text(padded_recipe.read_text().replace("global_batch_size = 4", "global_batch_size = 8"))
        bad |= compare("packed and padded documents", packed, train(program, padded_recipe))
        bad |= shared_and_repeated(program, fixtures, work)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
