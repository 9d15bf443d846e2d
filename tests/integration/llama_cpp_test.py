#!/usr/bin/env python3
"""Compares GGUF files that espalier wrote with the models that they came from, in llama.cpp. Part of the full run: needs
llama-cpp-python, torch and safetensors, and for `smollm2` the model of scripts/fetch_example.sh.

    llama_cpp_test.py logits|smollm2 --program build/release/bin/espalier --root .

logits    every model of the fixtures whose architecture can be exported has the reference's logits in float32
smollm2   the same ids for three prompts, and the same greedy answers, here and there
"""

import argparse
import ctypes
import json
import pathlib
import subprocess
import sys
import tempfile

PROMPTS = ['Define the noun "lighthouse".', "Write one sentence about the sea.", "What is two plus three?"]
NEW_TOKENS = 32
LIMIT = 1e-5  # of the largest logit
# ggml looks GELU up in a table of halves.
GELU_LIMIT = 2e-3
GELU = {"gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast"}
LEAST_MODELS = 19


def run(*words):
    result = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(str(word) for word in words)}\nended with {result.returncode}:\n{result.stdout}{result.stderr}")
    return result.stdout


def logits_of(path, rows):
    """[rows, tokens, vocabulary] of a file, without a cache in halves."""
    import llama_cpp
    import numpy

    model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
    if not model:
        sys.exit(f"llama.cpp does not load {path}")
    settings = llama_cpp.llama_context_default_params()
    settings.n_ctx = settings.n_batch = settings.n_ubatch = 256
    settings.type_k = settings.type_v = 0  # float32
    settings.flash_attn_type = 0
    settings.n_threads = settings.n_threads_batch = 1
    context = llama_cpp.llama_init_from_model(model, settings)
    size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    result = []
    for row in rows:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        batch = llama_cpp.llama_batch_init(len(row), 0, 1)
        batch.n_tokens = len(row)
        for i, token in enumerate(row):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = int(token), i, 1, 1
            batch.seq_id[i][0] = 0
        if llama_cpp.llama_decode(context, batch) != 0:
            sys.exit(f"llama.cpp does not compute {path}")
        result.append([numpy.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, i), shape=(size,)).copy()
                       for i in range(len(row))])
        llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return numpy.array(result)


def logits(options, work):
    import numpy
    from safetensors.torch import load_file

    fixtures = options.root / "tests" / "fixtures"
    compared, failed = 0, []
    for folder in sorted([*(fixtures / "models").iterdir(), *(fixtures / "families").iterdir()]):
        if not (folder / "expected.safetensors").exists():
            continue
        config = json.loads((folder / "config.json").read_text().replace("Infinity", "1e30"))
        file = work / f"{folder.name}.gguf"
        result = subprocess.run([options.program, "export", folder, "--format", "gguf", "--dtype", "f32", "--output", file],
                                capture_output=True, text=True)
        if result.returncode == 4:  # unsupported
            print(f"{folder.name}: not exported: {result.stderr.splitlines()[0]}")
            continue
        if result.returncode != 0:
            failed.append(f"{folder.name}: {result.stderr}")
            continue
        expected = load_file(folder / "expected.safetensors")
        window = config.get("sliding_window") if "sliding window" in result.stderr else None
        rows = expected["input_ids"].numpy()[:, :window]
        reference = expected["logits"].float().numpy()[:, :window]
        error = float(numpy.abs(logits_of(file, rows) - reference).max() / numpy.abs(reference).max())
        activation = {config.get(key) for key in ("hidden_act", "hidden_activation", "activation_function")}
        limit = GELU_LIMIT if activation & GELU else LIMIT
        print(f"{folder.name}: {error:.1e} of the largest logit, limit {limit:.0e}")
        compared += 1
        if not error <= limit:
            failed.append(f"{folder.name}: {error:.1e}")
    if failed or compared < LEAST_MODELS:
        sys.exit(f"{compared} models compared, at least {LEAST_MODELS} expected; failed: " + "\n".join(failed))


def smollm2(options, work):
    import llama_cpp

    folder = options.root / "models" / "smollm2"
    file = work / "smollm2.gguf"
    run(options.program, "export", folder, "--format", "gguf", "--dtype", "f32", "--output", file)
    model = llama_cpp.Llama(str(file), n_ctx=512, type_k=0, type_v=0, verbose=False)
    for prompt in PROMPTS:
        (work / "messages.json").write_text(json.dumps([{"role": "user", "content": prompt}]))
        text = json.loads(run(options.program, "template", "--model", folder, "--messages", work / "messages.json",
                              "--add-generation-prompt", "--json"))["text"]
        ours = json.loads(run(options.program, "generate", "--model", folder, "--messages", work / "messages.json",
                              "--max-new-tokens", NEW_TOKENS, "--dtype", "float32", "--json"))
        ids = model.tokenize(text.encode(), add_bos=False, special=True)
        theirs = []
        for token in model.generate(ids, temp=0.0):
            theirs.append(token)
            if len(theirs) == NEW_TOKENS or token == model.token_eos():
                break
        print(f"{prompt}\n  {ours['text']!r}")
        if ours["ids"] != theirs:
            sys.exit(f"llama.cpp answers otherwise: {model.detokenize(theirs)!r}\n  {ours['ids']}\n  {theirs}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["logits", "smollm2"])
    parser.add_argument("--program", type=pathlib.Path, required=True)
    parser.add_argument("--root", type=pathlib.Path, required=True)
    options = parser.parse_args()
    import llama_cpp

    silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    with tempfile.TemporaryDirectory() as work:
        {"logits": logits, "smollm2": smollm2}[options.what](options, pathlib.Path(work))


if __name__ == "__main__":
    main()
