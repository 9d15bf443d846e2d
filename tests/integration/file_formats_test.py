#!/usr/bin/env python3
"""Formats that plugins read and write: file_formats_test.py ESPALIER FIXTURES

A model whose weights are in NumPy's .npz and whose tokenizer is ByT5's is found, computed, trained and exported as any
other. Archives are made and read here with Python's zipfile, the texts are those of ByT5Tokenizer in transformers."""

import array
import json
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile

PROGRAM, FIXTURES = sys.argv[1], pathlib.Path(sys.argv[2])
MODEL = FIXTURES / "families" / "olmo2"
BYT5 = FIXTURES / "tokenizers" / "byt5"


def espalier(*arguments, code=0, folder=None):
    result = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, cwd=folder)
    assert result.returncode == code, f"{arguments}: exit code {result.returncode}\n{result.stdout}\n{result.stderr}"
    return result.stdout if code == 0 else result.stderr


def read_safetensors(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    return {name: (entry["dtype"], entry["shape"], data[8 + length + entry["data_offsets"][0]:8 + length + entry["data_offsets"][1]])
            for name, entry in header.items()}


NUMPY = {"F32": "<f4", "F16": "<f2", "I64": "<i8", "BOOL": "|b1"}


def npy(dtype, shape, data, columns_first=False):
    shape = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
    header = f"{{'descr': '{NUMPY[dtype]}', 'fortran_order': {columns_first}, 'shape': ({shape}), }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


def columns_first(shape, data):
    """The bytes of a float32 matrix, column by column."""
    rows, columns = shape
    return b"".join(data[4 * (r * columns + c):4 * (r * columns + c) + 4] for c in range(columns) for r in range(rows))


def write_npz(path, tensors, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, (dtype, shape, data) in tensors.items():
            # Every second matrix in Fortran's order, as numpy.savez has a transposed one.
            turned = len(shape) == 2 and dtype == "F32" and len(name) % 2 == 0
            with archive.open(name + ".npy", "w", force_zip64=True) as entry:
                entry.write(npy(dtype, shape, columns_first(shape, data) if turned else data, turned))


def model_folder(folder, **npz):
    folder.mkdir()
    shutil.copy(MODEL / "config.json", folder)
    write_npz(folder / "weights.npz", read_safetensors(MODEL / "model.safetensors"), **npz)
    return folder


def reads_what_numpy_wrote(work):
    folder = model_folder(work / "npz")
    espalier("convert", folder, "--output", work / "back")
    assert read_safetensors(work / "back" / "model.safetensors") == read_safetensors(MODEL / "model.safetensors")
    assert not (work / "back" / "weights.npz").exists(), "the old weights were copied too"
    # The names say what the folder is; nothing in the recipe does.
    espalier("parity", "--model", folder, "--expected", MODEL / "expected.safetensors")
    inspection = json.loads(espalier("models", "inspect", folder, "--json"))
    assert inspection["problems"] == [] and "float32" in inspection["dtypes"], inspection


def writes_what_python_reads(work):
    espalier("convert", MODEL, "--output", work / "out", "--format", "npz")
    tensors = read_safetensors(MODEL / "model.safetensors")
    assert not (work / "out" / "model.safetensors").exists()
    with zipfile.ZipFile(work / "out" / "model.npz") as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == sorted(name + ".npy" for name in tensors)
        for name, (dtype, shape, data) in tensors.items():
            content = archive.read(name + ".npy")
            assert content == npy(dtype, shape, data), name
            assert len(content) - len(data) == 128, "numbers begin at a multiple of 64"
    try:
        import numpy
    except ImportError:
        return
    with numpy.load(work / "out" / "model.npz") as arrays:
        assert all(arrays[name].tobytes() == data for name, (_, _, data) in tensors.items())


def refuses_what_it_cannot(work):
    folder = model_folder(work / "compressed", compression=zipfile.ZIP_DEFLATED)
    assert "compressed entry" in espalier("convert", folder, "--output", work / "x", code=2)
    assert "NumPy has no such type" in espalier("convert", MODEL, "--output", work / "x", "--format", "npz", "--dtype", "bf16",
                                                code=4)
    assert not (work / "x").exists(), "a failed conversion left a folder"
    assert "did you mean 'npz'" in espalier("convert", MODEL, "--output", work / "x", "--format", "npy", code=2)
    assert "no weights in the format 'npz'" in espalier("convert", MODEL, "--output", work / "x", "--from", "npz", code=2)
    (work / "none").mkdir()
    assert "holds no tokenizer" in espalier("tokenize", "--model", work / "none", "--input", "-", code=5)


def tokenizes_like_transformers(work):
    cases = json.loads((BYT5 / "cases.json").read_text())
    lines = work / "lines.jsonl"

    def run(key, values, *options):
        lines.write_text("".join(json.dumps({key: value}) + "\n" for value in values))
        output = espalier("tokenize", "--model", BYT5, "--input", lines, "--json", *options)
        return [json.loads(line) for line in output.splitlines()]

    for case, result in zip(cases, run("text", [case["text"] for case in cases])):
        assert result["ids"] == case["ids"] and result["tokens"] == case["tokens"], (case, result)
    for case, result in zip(cases, run("text", [case["text"] for case in cases], "--no-special-tokens")):
        assert result["ids"] == case["plain"], (case, result)
        for (begin, end), token in zip(result["offsets"], result["tokens"]):
            if len(token) > 1:
                assert case["text"][begin:end] == token, (case, begin, end)
            else:
                assert end == begin + 1 and token in case["text"][begin].encode().decode("latin-1"), (case, begin, token)
    for flag, key in ((), "decoded"), (("--skip-special-tokens",), "skipped"):
        for case, result in zip(cases, run("ids", [case["ids"] for case in cases], "--decode", *flag)):
            assert result["text"] == case[key], (case, result)
    # By name, for a folder that says nothing.
    (work / "bare").mkdir()
    lines.write_text('{"text": "\\u00e9"}\n')
    bare = json.loads(espalier("tokenize", "--model", work / "bare", "--tokenizer", "byt5", "--input", lines, "--json"))
    assert bare["ids"] == [198, 172, 1], bare


def trains_and_exports(work):
    folder = model_folder(work / "model")
    config = json.loads((folder / "config.json").read_text())
    config["vocab_size"] = 384
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}')
    (folder / "weights.npz").unlink()
    tensors = read_safetensors(MODEL / "model.safetensors")
    for name, (dtype, shape, data) in tensors.items():
        if shape[0] == json.loads((MODEL / "config.json").read_text())["vocab_size"]:
            rows = [384] + shape[1:]
            tensors[name] = (dtype, rows, (data * (1 + 384 // shape[0]))[:4 * rows[0] * rows[1]])
    write_npz(folder / "weights.npz", tensors)
    (work / "rows.jsonl").write_text('{"q": "Two and two?", "a": "F\u00f6ur"}\n{"q": "A colour?", "a": "Blue"}\n')
    (work / "recipe.toml").write_text("""
output_dir = "run"
[model]
path = "model"
[dataset]
type = "column_mapped"
path = "rows.jsonl"
column_mapping = { question = "q", answer = "a" }
[step_scheduler]
global_batch_size = 2
local_batch_size = 1
max_steps = 2
""")
    espalier("train", "recipe.toml", folder=work)
    used = {entry["id"] for entry in json.loads((work / "run" / "plugins.lock").read_text())["plugins"]}
    assert {"espalier.npz", "espalier.byt5"} <= used, used
    final = work / "run" / "final"
    assert sorted(read_safetensors(final / "model.safetensors")) == sorted(tensors)
    assert (final / "tokenizer_config.json").exists()
    answer = espalier("generate", "--model", final, "--prompt", "Two", "--max-new-tokens", "4", folder=work)
    assert answer, "nothing was generated"
    assert "log probability of 3 tokens" in espalier("score", "--model", folder, "--text", "Two", folder=work)
    # What the recipe names has to fit.
    (work / "recipe.toml").write_text((work / "recipe.toml").read_text().replace(
        'path = "model"', f'path = "{final}"\ncheckpoint_format = "npz"'))
    assert "no weights in the format 'npz'" in espalier("train", "recipe.toml", "--resume", "never", code=2, folder=work)


def extracts_an_adapter(work):
    folder = model_folder(work / "tuned")
    tensors = read_safetensors(MODEL / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    dtype, shape, data = tensors[name]
    values = array.array("f", data)
    for row in range(shape[0]):
        for column in range(shape[1]):
            values[row * shape[1] + column] += (row + 1) * (column - 3) / 1000  # of rank 1
    tensors[name] = (dtype, shape, values.tobytes())
    write_npz(folder / "weights.npz", tensors)
    said = espalier("adapter", "extract", "--base", MODEL, "--model", folder, "--rank", "1", "--output", work / "adapter")
    assert "0.00 % of the difference" in said, said
    espalier("adapter", "merge", "--model", MODEL, "--adapter", work / "adapter", "--output", work / "merged")
    merged = array.array("f", read_safetensors(work / "merged" / "model.safetensors")[name][2])
    assert max(abs(a - b) for a, b in zip(merged, values)) < 1e-5


def main():
    for case in (reads_what_numpy_wrote, writes_what_python_reads, refuses_what_it_cannot, tokenizes_like_transformers,
                 trains_and_exports, extracts_an_adapter):
        with tempfile.TemporaryDirectory() as folder:
            case(pathlib.Path(folder))
        print(case.__name__, flush=True)


if __name__ == "__main__":
    main()
