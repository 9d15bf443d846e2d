#!/usr/bin/env python3
"""Fine-tuning on the CPU, ours against transformers (+ PEFT): the same model, batches, threads and initial adapter.

    bench/training.py MODEL DATA.jsonl [--kind lora|full] [--rows default|same|tuned|bf16 ...] [--steps 8] [--rounds 2]

MODEL is a Hugging Face folder, DATA chats in JSON Lines (scripts/fetch_example.sh makes both). The chats are tokenised once
and written as padded batches of 8 and as packed rows of 512 tokens; runs of both sides alternate, each in a process of its
own, and a row's ratio is the median over its steps of their time over ours. What is compared, by row:

    default  what each does when nothing is tuned: padded batches in float32; theirs with LibTorch's choice of matrix products
    same     both padded, in float32, with the same matrix products (MKL told that the CPU is fast); ours computes every
             token, too, where it otherwise computes once what texts begin with alike
    tuned    theirs packed with a block-diagonal mask, the head at label positions only, tcmalloc and fast MKL; ours packed
    bf16     as tuned, with bfloat16 arithmetic: theirs by autocast, ours on weights of float32, or, where LoRA freezes
             them, of bfloat16

Needs a Python with torch, transformers and peft; without them the one of the full tests is set up in the cache folder.
"""

import argparse
import glob
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

STARTED = time.time()
BATCH, LENGTH, LR = 8, 512, {"lora": 2e-4, "full": 2e-5}
SKIPPED = 2  # steps until caches and allocators have settled
ROWS = {"default": {"layout": "padded"}, "same": {"layout": "padded", "fast": True, "repeated": True},
        "tuned": {"layout": "packed", "fast": True, "tuned": True},
        "bf16": {"layout": "packed", "fast": True, "tuned": True, "bf16": True}}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def tokenise(model, data, count):
    """Ids and labels of chats; learnt is what the assistant's turn adds."""
    from transformers import AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(model)
    samples = []
    with open(data) as lines:
        for line, _ in zip(lines, range(count)):
            messages = json.loads(line)["messages"]
            prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
            ids = tokenizer(tokenizer.apply_chat_template(messages, tokenize=False), add_special_tokens=False).input_ids
            skipped = len(tokenizer(prompt, add_special_tokens=False).input_ids)
            samples.append((ids, [-100] * skipped + ids[skipped:]))
    return samples


def write_layouts(samples, folder, steps):
    import torch
    from safetensors.torch import save_file
    chosen = samples[:BATCH * steps]
    width = max(len(ids) for ids, _ in chosen)
    fill = lambda rows, value: torch.tensor([row + [value] * (width - len(row)) for row in rows])
    save_file({"input_ids": fill([ids for ids, _ in chosen], 2), "labels": fill([labels for _, labels in chosen], -100),
               "attention_mask": fill([[1] * len(ids) for ids, _ in chosen], 0)}, folder / "padded.safetensors")
    rows, row = [], ([], [], [0])
    for ids, labels in samples:
        if len(row[0]) + len(ids) > LENGTH:
            rows.append(row)
            row = ([], [], [0])
        row = (row[0] + ids, row[1] + labels, row[2] + [len(row[0]) + len(ids)])
    rows = rows[:steps]
    most = max(len(starts) for _, _, starts in rows) + 1
    pad = lambda values, value: values + [value] * (LENGTH - len(values))
    save_file({"input_ids": torch.tensor([pad(ids, 2) for ids, _, _ in rows]),
               "labels": torch.tensor([pad(labels, -100) for _, labels, _ in rows]),
               "attention_mask": torch.tensor([pad([1] * len(ids), 0) for ids, _, _ in rows]),
               "cu_seqlens": torch.tensor([starts + [starts[-1]] * (most - len(starts)) for _, _, starts in rows])},
              folder / "packed.safetensors")


def ours(options, work, kind, row):
    packed = row["layout"] == "packed"
    recipe = work / "recipe.toml"
    text = f"""output_dir = "{work / 'run'}"
[model]
path = "{options.model.resolve()}"
dtype = "{'bfloat16' if row.get('bf16') and kind == 'lora' else 'float32'}"
{'compute_dtype = "bfloat16"' if row.get("bf16") else ''}
share_prefixes = {'false' if options.repeated or row.get('repeated') else 'true'}
[dataset]
type = "pretokenized"
path = "{work / row['layout']}.safetensors"
[dataloader]
shuffle = false
[step_scheduler]
global_batch_size = {1 if packed else BATCH}
local_batch_size = {1 if packed else BATCH}
max_steps = {options.steps}
[optimizer]
type = "adamw"
lr = {LR[kind]}
weight_decay = 0.01
[lr_scheduler]
type = "constant"
[checkpoint]
enabled = false
"""
    if kind == "lora":
        text += f'[peft]\ntype = "lora"\npath = "{work / "adapter"}"\n'
    recipe.write_text(text + "".join(f"{line}\n" for line in options.recipe_lines))
    log = work / "run" / "training.jsonl"
    log.unlink(missing_ok=True)
    started = time.time()
    process = subprocess.Popen([options.espalier, "train", recipe, "--quiet", "--resume", "never"],
                               env={**os.environ, "OMP_NUM_THREADS": str(options.threads)})
    first = None
    while process.poll() is None:
        if first is None and log.exists() and log.stat().st_size > 0:
            first = time.time() - started  # the first step's line is there
        time.sleep(0.005 if first is None else 0.1)
    if process.returncode != 0:
        sys.exit(f"{options.espalier} ended with {process.returncode}")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return {"seconds": [line["step_seconds"] for line in lines], "losses": [line["loss"] for line in lines],
            "tokens": [line["num_tokens"] for line in lines],
            "computed": sum(line["num_computed_tokens"] for line in lines) / sum(line["num_tokens"] for line in lines),
            "peak": lines[-1]["peak_rss_bytes"], "first": first}


def theirs(options, work, kind, row):
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "TOKENIZERS_PARALLELISM": "false"}
    preload = []
    if row.get("fast"):
        library = work / "mkl.so"
        if not library.exists():
            (work / "mkl.c").write_text("int mkl_serv_intel_cpu_true(void) { return 1; }\n")
            subprocess.run(["cc", "-shared", "-fPIC", "-o", library, work / "mkl.c"], check=True)
        preload.append(str(library))
    if row.get("tuned"):
        preload += glob.glob("/usr/lib/*/libtcmalloc_minimal.so.4")[:1]
    if preload:
        environment["LD_PRELOAD"] = ":".join(preload)
    result = work / "theirs.json"
    subprocess.run([sys.executable, __file__, str(options.model), "-", "--worker", str(result), "--kind", kind, "--rows",
                    options.current, "--steps", str(options.steps), "--threads", str(options.threads), "--work", str(work)],
                   check=True, env=environment)
    return json.loads(result.read_text())


def load_theirs(model_path, kind, adapter):
    import torch
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)
    if kind == "lora":
        from peft import PeftModel
        model = PeftModel.from_pretrained(model, adapter, is_trainable=True)
    return model.train()


def block_diagonal(starts, length):
    import torch
    document = torch.zeros(length, dtype=torch.long)
    positions = torch.arange(length)
    for i, (begin, end) in enumerate(zip(starts, starts[1:])):
        document[begin:end] = i + 1
        positions[begin:end] -= begin
    allowed = (document[:, None] == document[None, :]) & torch.ones(length, length, dtype=torch.bool).tril()
    return allowed[None, None], positions[None]


def worker(options):
    """A run of transformers in this process."""
    import torch
    from safetensors.torch import load_file
    torch.set_num_threads(options.threads)
    row, kind, work = ROWS[options.rows[0]], options.kind, options.work
    data = load_file(work / f"{row['layout']}.safetensors")
    model = load_theirs(options.model, kind, work / "adapter")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LR[kind], weight_decay=0.01, fused=True)
    result = {"seconds": [], "losses": [], "tokens": []}
    per_step = 1 if row["layout"] == "packed" else BATCH
    for step in range(options.steps):
        start = time.perf_counter()
        ids, labels, mask = (data[name][step * per_step:(step + 1) * per_step]
                             for name in ("input_ids", "labels", "attention_mask"))
        width = int(mask.sum(-1).max())
        ids, labels, mask = ids[:, :width], labels[:, :width], mask[:, :width]
        arguments = {"input_ids": ids}
        targets = torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], -100)], 1)
        if row["layout"] == "packed":
            arguments["attention_mask"], arguments["position_ids"] = block_diagonal(
                data["cu_seqlens"][step].tolist(), width)
            for begin in data["cu_seqlens"][step].tolist():
                if 0 < begin:
                    targets[0, begin - 1] = -100
        else:
            arguments["attention_mask"] = mask
        with torch.autocast("cpu", torch.bfloat16, enabled=bool(row.get("bf16"))):
            if row.get("tuned"):
                base = model.get_base_model() if kind == "lora" else model
                hidden = base.model(**arguments, use_cache=False).last_hidden_state
                kept = targets != -100
                logits, targets = base.lm_head(hidden[kept]), targets[kept]
            else:
                logits = model(**arguments, use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, -2), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        result["losses"].append(loss.item())
        result["seconds"].append(time.perf_counter() - start)
        result["tokens"].append(int((data["attention_mask"][step * per_step:(step + 1) * per_step]).sum()))
        if step == 0:
            result["first"] = time.time() - STARTED
    import resource
    result["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    pathlib.Path(options.worker).write_text(json.dumps(result))


def rate(run):
    return statistics.median(tokens / seconds for tokens, seconds in list(zip(run["tokens"], run["seconds"]))[SKIPPED:])


def compare(options, work, name):
    row = ROWS[name]
    options.current = name
    ratios, rates, runs = [], ([], []), []
    for _ in range(options.rounds):
        pair = (ours(options, work, options.kind, row), theirs(options, work, options.kind, row))
        # Where another process took the cores from one of the two, its step says nothing: medians pass over it.
        ratios += [b / a for a, b in zip(pair[0]["seconds"], pair[1]["seconds"])][SKIPPED:]
        for i in (0, 1):
            rates[i].append(rate(pair[i]))
        runs.append(pair)
    ours_run, theirs_run = runs[-1]
    first = [min(pair[i]["first"] for pair in runs) for i in (0, 1)]  # later runs find the files in memory
    worst = max(abs(a - b) / abs(b) for a, b in zip(ours_run["losses"], theirs_run["losses"]))
    quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
    print(f"| {options.kind} {name} | {max(rates[0]):.0f} | {max(rates[1]):.0f} | {quartiles[1]:.2f} "
          f"({quartiles[0]:.2f}-{quartiles[2]:.2f}) | {100 * ours_run['computed']:.0f} % | {ours_run['peak'] / 1e9:.2f} | {theirs_run['peak'] / 1e9:.2f} | "
          f"{ours_run['peak'] / theirs_run['peak']:.2f} | {first[0]:.1f} | {first[1]:.1f} | {worst:.1e} |", flush=True)


def save_adapter(options, folder):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    config = LoraConfig(r=8, lora_alpha=32, target_modules=TARGETS, lora_dropout=0.0, task_type="CAUSAL_LM")
    get_peft_model(model, config).save_pretrained(folder)


def with_peers():
    """This program in a Python that has the peers."""
    try:
        import peft  # noqa: F401
        import torch  # noqa: F401
        import transformers  # noqa: F401
        return
    except ImportError:
        pass
    cache = pathlib.Path(os.environ.get("ESPALIER_CACHE") or
                         pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "espalier")
    python = cache / "python-full" / "bin" / "python"
    if pathlib.Path(sys.executable) == python:
        sys.exit(f"{python} lacks torch, transformers or peft; remove its folder and try again")
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", cache / "python-full"], check=True)
        requirements = pathlib.Path(__file__).parent.parent / "scripts" / "test-requirements-full.txt"
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", requirements], check=True)
    os.execv(python, [str(python), *sys.argv])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("data")
    parser.add_argument("--espalier", default="build/release/bin/espalier")
    parser.add_argument("--kind", choices=["lora", "full"], default="lora")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=["default", "same", "tuned"])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeated", action="store_true", help="ours computes what texts begin with alike for each")
    parser.add_argument("--recipe-lines", nargs="*", default=[], help="lines for the end of our recipe")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=pathlib.Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with_peers()
    if options.worker:
        worker(options)
        return
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        write_layouts(tokenise(options.model, options.data, 40 * options.steps), work, options.steps)
        if options.kind == "lora":
            save_adapter(options, work / "adapter")
        print("| run | ours, tokens/s | theirs | their time / ours (quartiles) | tokens we compute | our peak RSS, GB | "
              "theirs | ours / theirs | our first step done after s | theirs | largest difference of a loss |\n"
              "|---|---|---|---|---|---|---|---|---|---|---|")
        for name in options.rows:
            compare(options, work, name)


if __name__ == "__main__":
    main()
