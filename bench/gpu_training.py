#!/usr/bin/env python3
"""Full fine-tuning on a GPU, ours and transformers in one run: a Llama of SmolLM2-135M's shape with random weights, bf16,
the same token batches, AdamW. Prints tokens/s, memory and losses of both.

    bench/gpu_training.py --program build/release/bin/espalier [--steps 40] [--batch 16] [--length 1024]

Needs a Python with torch and transformers.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

SHAPE = dict(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
             num_key_value_heads=3, max_position_embeddings=8192, rope_theta=100000.0, tie_word_embeddings=True)
SKIPPED = 5  # steps until clocks and allocators have settled


def ours(options, folder, words):
    (folder / "recipe.toml").write_text(
        f'output_dir = "{folder / "run"}"\ndevice = "cuda"\n[model]\npath = "{folder / "model"}"\ndtype = "bfloat16"\n'
        f'[dataset]\ntype = "pretokenized"\npath = "{folder / "data.safetensors"}"\n[step_scheduler]\n'
        f'global_batch_size = {options.batch}\nlocal_batch_size = {options.batch}\nmax_steps = {options.steps}\n'
        '[optimizer]\ntype = "adamw"\nlr = 1e-4\nweight_decay = 0.0\n[lr_scheduler]\ntype = "constant"\n'
        "[checkpoint]\nenabled = false\n")
    subprocess.run([options.program, "train", folder / "recipe.toml", "--quiet", "--resume", "never", *words], check=True)
    lines = [json.loads(line) for line in (folder / "run" / "training.jsonl").read_text().splitlines()]
    return [line["step_seconds"] for line in lines], [line["loss"] for line in lines], lines[-1]["peak_device_bytes"]


def theirs(options, folder, data):
    torch.cuda.reset_peak_memory_stats()
    model = LlamaForCausalLM.from_pretrained(folder / "model", dtype=torch.bfloat16, attn_implementation="sdpa").cuda()
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0, fused=True)
    seconds, losses = [], []
    for step in range(options.steps):
        ids = data[step % len(data)].cuda()
        torch.cuda.synchronize()
        start = time.perf_counter()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)
    return seconds, losses, torch.cuda.max_memory_allocated()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=1024)
    options = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        LlamaForCausalLM(LlamaConfig(**SHAPE)).to(torch.bfloat16).save_pretrained(folder / "model")
        data = torch.randint(0, 49152, (4, options.batch, options.length))
        save_file({"input_ids": data, "labels": data.clone()}, folder / "data.safetensors")
        rows = {"espalier, LibTorch's ops": ours(options, folder, ["--kernels.type=reference"]),
                "espalier, CUDA kernels": ours(options, folder, ["--kernels.type=cuda_kernels"]),
                "transformers, eager": theirs(options, folder, data)}
    tokens = options.batch * options.length
    reference = statistics.median(rows["transformers, eager"][0][SKIPPED:])
    print(f"{torch.cuda.get_device_name()}, {options.batch} x {options.length} tokens a step, bf16, {options.steps} steps")
    for name, (seconds, losses, peak) in rows.items():
        median = statistics.median(seconds[SKIPPED:])
        print(f"{name:26} {tokens / median:10.0f} tok/s  {reference / median:5.2f} x  {median * 1000:7.1f} ms a step  "
              f"{peak / 1e9:6.2f} GB  loss {losses[0]:.4f} -> {losses[-1]:.4f}")


if __name__ == "__main__":
    main()
