#!/usr/bin/env python3
"""Loggers hear what training.jsonl says: loggers_test.py ESPALIER FIXTURES

TensorBoard's event files are read here by their specification (TFRecord, protobuf), and by the tensorboard package where this
Python has it.
"""

import csv
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

STEPS = 5


def checksum(data):
    """CRC-32C, masked as TFRecord does it."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    value ^= 0xFFFFFFFF
    return ((value >> 15 | value << 17 & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF


def records(path):
    data, at = path.read_bytes(), 0
    while at < len(data):
        head = data[at:at + 8]
        (size,) = struct.unpack("<Q", head)
        body = data[at + 12:at + 12 + size]
        assert struct.unpack("<I", data[at + 8:at + 12])[0] == checksum(head), "checksum of a length"
        assert struct.unpack("<I", data[at + 12 + size:at + 16 + size])[0] == checksum(body), "checksum of an event"
        yield body
        at += 16 + size


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at


def fields(data):
    """Field number -> values, of a protobuf message."""
    found, at = {}, 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 2:
            size, at = varint(data, at)
            value, at = data[at:at + size], at + size
        else:
            size = 8 if kind == 1 else 4
            value, at = struct.unpack("<d" if size == 8 else "<f", data[at:at + size])[0], at + size
        found.setdefault(key >> 3, []).append(value)
    return found


def scalars(folder):
    """Tag -> {step: value}; a session that starts at a step takes back what was said of it and later ones."""
    result = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for number, record in enumerate(records(path)):
            event = fields(record)
            step = event.get(2, [0])[0]
            if number == 0:
                assert event[3] == [b"brain.Event:2"], event
            if 7 in event:
                for values in result.values():
                    for later in [s for s in values if s >= step]:
                        del values[later]
            for summary in event.get(5, []):
                for value in fields(summary)[1]:
                    parts = fields(value)
                    result.setdefault(parts[1][0].decode(), {})[step] = parts[2][0]
    return result


def with_the_package(folder):
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError:
        return None
    accumulator = EventAccumulator(str(folder), purge_orphaned_data=True)
    accumulator.Reload()
    return {tag: {e.step: e.value for e in accumulator.Scalars(tag)} for tag in accumulator.Tags()["scalars"]}


def run(program, recipe, *words):
    result = subprocess.run([program, "train", recipe, "--quiet", *words], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def check(folder):
    lines = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    by_tag = [scalars(folder / "tensorboard"), with_the_package(folder / "tensorboard")]
    rows = list(csv.DictReader((folder / "training.csv").open()))
    assert [int(row["step"]) for row in rows] == [line["step"] for line in lines], rows
    for row, line in zip(rows, lines):
        for key in ("loss", "lr", "grad_norm", "num_tokens"):
            assert float(row[key]) == line[key], (key, row, line)
            for tags in filter(None, by_tag):
                want = struct.unpack("<f", struct.pack("<f", line[key]))[0]
                assert tags["training/" + key][line["step"]] == want, (key, line["step"])
    for tags in filter(None, by_tag):
        assert sorted(tags["training/loss"]) == [line["step"] for line in lines]
    print(len(lines), "steps,", "also read by tensorboard" if by_tag[1] else "tensorboard is not installed")


def main():
    program, fixtures = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as temporary:
        work = pathlib.Path(temporary)
        recipe = work / "recipe.toml"
        recipe.write_text(f'''output_dir = "{work / "run"}"
[model]
path = "{fixtures}/models/llama"
[dataset]
type = "mock"
vocab_size = 64
seq_length = 16
num_samples = 40
[step_scheduler]
global_batch_size = 2
local_batch_size = 2
max_steps = {STEPS}
ckpt_every_steps = 3
[optimizer]
type = "sgd"
lr = 0.1
[logger]
type = "tensorboard"
[logger_table]
type = "csv"
''')
        run(program, recipe)
        check(work / "run")
        # From the checkpoint of step 3 on again: steps 4 and 5 come a second time.
        for folder in (work / "run" / "checkpoints").iterdir():
            if folder.is_dir() and folder.name.endswith(str(STEPS)):
                subprocess.run(["rm", "-r", folder], check=True)
        run(program, recipe, "--resume", "auto")
        check(work / "run")


if __name__ == "__main__":
    main()
