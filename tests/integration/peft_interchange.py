#!/usr/bin/env python3
"""Adapters change hands between the program and Python's PEFT with equal numbers.

    peft_interchange.py ESPALIER FIXTURES

Ours to theirs: adapters that the program trained give the same logits in PEFT. Theirs to ours: adapters that PEFT made
with random values give the same logits, gradients and merged weights in the program. Logits within 1e-5 of the largest
(DoRA 5e-5), gradients within 1e-4 of the largest of their tensor + 1e-6 of all, merged weights within 1e-6 (DoRA 1e-5).
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

# Base, [peft] section: what the program trains.
OURS = [
    ("llama", "dim = 5\nalpha = 9\ndropout = 0.1"),
    ("llama", 'target_modules = ["*.layers.1.*_proj", "embed_tokens"]\nuse_rslora = true\nlora_A_init = "gaussian"'),
    ("llama", 'target_modules = ["q_proj", "lm_head"]\nuse_dora = true\nlora_A_init = "kaiming"'),
    ("llama", 'target_modules = "[^.]*\\\\.layers\\\\.0\\\\..*(q|up)_proj"\nmodules_to_save = ["lm_head", "norm"]'),
    ("gpt2", 'target_modules = ["c_attn", "c_fc"]\nbias = "all"\nrank_pattern = {c_fc = 3}\nalpha_pattern = {c_attn = 5}'),
    ("gpt2", 'target_modules = ["c_proj"]\nuse_dora = true\nbias = "lora_only"\nlayers_to_transform = [1]'),
    ("qwen2", 'target_modules = ["q_proj", "v_proj"]\nbias = "lora_only"\nmodules_to_save = ["mlp"]'),
    ("mixtral", 'dim = 3\ntarget_modules = ["o_proj"]\ntarget_parameters = ["experts.gate_up_proj", "experts.down_proj"]'),
    ("mixtral", 'dim = 2\ntarget_parameters = ["experts.down_proj"]'),
    ("llama", 'type = "ia3"\ntarget_modules = ["*.layers.1.*_proj", "k_proj"]\nfeedforward_modules = ["*down_proj"]'),
    ("gpt2", 'type = "ia3"\ntarget_modules = ["c_attn", "c_fc"]\nfeedforward_modules = ["c_fc"]'),
    ("llama", 'type = "prompt_tuning"\nnum_virtual_tokens = 3\nprompt_tuning_init = "sample_vocab"'),
    ("gpt2", 'type = "prompt_tuning"\nnum_virtual_tokens = 2'),
    ("qwen2", 'type = "prefix_tuning"\nnum_virtual_tokens = 4'),
    ("gpt2", 'type = "prefix_tuning"\nnum_virtual_tokens = 2\ninit_weights = "zero"'),
]
# Base, arguments of LoraConfig: what PEFT makes.
THEIRS = [
    ("llama", dict(r=3, lora_alpha=7, target_modules="all-linear")),
    ("llama", dict(r=4, target_modules=["embed_tokens", "v_proj"], use_dora=True)),
    ("llama", dict(r=4, target_modules=["q_proj"], layers_to_transform=[0], layers_pattern="layers")),
    ("llama", dict(r=6, target_modules=r".*\.(gate|down)_proj", use_rslora=True, modules_to_save=["embed_tokens"])),
    ("llama", dict(r=2, target_modules=["lm_head", "o_proj"], exclude_modules=r".*layers\.0.*")),
    ("gpt2", dict(r=4, target_modules=["c_attn", "c_fc"], use_dora=True, fan_in_fan_out=True, bias="all")),
    ("gpt2", dict(r=4, target_modules=["c_attn"], fan_in_fan_out=True, modules_to_save=["c_fc", "ln_f"])),
    ("qwen2", dict(r=4, target_modules=["q_proj", "o_proj"], bias="lora_only", rank_pattern={"o_proj": 2})),
]


class Failures(list):
    def close(self, what, actual, expected, limit):
        worst = (actual - expected).abs().max().item()
        if not worst <= limit:
            self.append(f"{what}: off by {worst:.2e}, limit {limit:.2e}")
        return worst / max(expected.abs().max().item(), 1e-30)


def load_base(fixtures, name):
    return AutoModelForCausalLM.from_pretrained(
        fixtures / "models" / name, dtype=torch.float32, attn_implementation="eager").eval()


def batch_of(base, seed):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, base.config.vocab_size, (2, 13), generator=generator)
    labels = torch.where(torch.rand(ids.shape, generator=generator) < 0.5, ids, -100)
    return ids, labels


def score(program, model, adapter, ids, labels, work):
    save_file({"input_ids": ids, "labels": labels}, work / "batch.safetensors")
    words = [program, "score", "--model", str(model), "--input", str(work / "batch.safetensors"), "--output",
             str(work / "out.safetensors"), "--logits"]
    if adapter is not None:
        words += ["--adapter", str(adapter), "--gradients"]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return load_file(work / "out.safetensors")


def train(program, fixtures, base, section, work):
    (work / "recipe.toml").write_text(f'''output_dir = "{work / 'run'}"
[model]
path = "{fixtures / 'models' / base}"
[dataset]
type = "pretokenized"
path = "{fixtures / 'training' / 'lora_adamw' / 'data.safetensors'}"
[step_scheduler]
global_batch_size = 2
local_batch_size = 2
max_steps = 4
[optimizer]
lr = 0.02
[peft]
{section if section.startswith("type") else 'type = "lora"' + chr(10) + section}
''')
    subprocess.run([program, "train", str(work / "recipe.toml"), "--quiet"], check=True)
    return work / "run" / "final"


def logits_limit(config, expected):
    return (5e-5 if config.get("use_dora") else 1e-5) * expected.abs().max().item()


def logits_of(model, ids):
    """Of the text's own tokens: PEFT gives those of a learnt prompt too."""
    config = getattr(model, "active_peft_config", None)
    if config is None or config.peft_type not in ("PROMPT_TUNING", "PREFIX_TUNING"):
        return model(input_ids=ids, use_cache=False).logits.detach()
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.detach()
    return logits[:, -ids.shape[1]:]


def check_ours(program, fixtures, base, section, work, failures):
    adapter = train(program, fixtures, base, section, work)
    model = load_base(fixtures, base)
    ids, labels = batch_of(model, 1)
    before = logits_of(model, ids)
    theirs = PeftModel.from_pretrained(model, adapter).eval()
    expected = logits_of(theirs, ids)
    if (expected - before).abs().max() < 1e-3:
        failures.append("PEFT loads the adapter, but it changes nothing")
    ours = score(program, fixtures / "models" / base, adapter, ids, labels, work)["logits"]
    config = json.loads((adapter / "adapter_config.json").read_text())
    saved = set(load_file(adapter / "adapter_model.safetensors"))
    wanted = {name for name in get_peft_model_state_dict(theirs)}
    if saved != wanted:
        failures.append(f"tensor names differ from PEFT's: {sorted(saved ^ wanted)}")
    return failures.close("logits", ours, expected, logits_limit(config, expected))


def make_theirs(fixtures, base, arguments, folder):
    model = get_peft_model(load_base(fixtures, base), LoraConfig(task_type="CAUSAL_LM", **arguments)).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.mul_(1 + 0.1 * noise) if "magnitude" in name else parameter.add_(0.1 * noise)
    model.save_pretrained(folder)
    return model


def check_theirs(program, fixtures, base, arguments, work, failures):
    model = make_theirs(fixtures, base, arguments, work / "adapter")
    config = json.loads((work / "adapter" / "adapter_config.json").read_text())
    ids, labels = batch_of(model, 2)
    out = model(input_ids=ids, labels=labels, use_cache=False)
    out.loss.backward()
    ours = score(program, fixtures / "models" / base, work / "adapter", ids, labels, work)
    worst = failures.close("logits", ours["logits"], out.logits.detach(), logits_limit(config, out.logits.detach()))
    grads = get_peft_model_state_dict(
        model, state_dict={n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    largest = max(g.abs().max().item() for g in grads.values())
    for name, grad in grads.items():
        limit = 1e-4 * grad.abs().max().item() + 1e-6 * largest
        failures.close("grad." + name, ours["grad." + name], grad, limit)
    check_merged(program, fixtures / "models" / base, model, config, work, failures)
    return worst


def check_merged(program, base, model, config, work, failures):
    subprocess.run([program, "adapter", "merge", "--model", str(base), "--adapter", str(work / "adapter"), "--output",
                    str(work / "merged")], check=True, stdout=subprocess.DEVNULL)
    expected = model.merge_and_unload().state_dict()
    for name, weight in load_file(work / "merged" / "model.safetensors").items():
        limit = (1e-5 if config["use_dora"] else 1e-6) * expected[name].abs().max().item()
        failures.close("merged " + name, weight, expected[name], limit)


def main():
    program, fixtures = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
    cases = [("ours", check_ours, *case) for case in OURS] + [("theirs", check_theirs, *case) for case in THEIRS]
    bad = 0
    for kind, check, base, settings in cases:
        failures = Failures()
        with tempfile.TemporaryDirectory() as work:
            worst = check(program, fixtures, base, settings, pathlib.Path(work), failures)
        print(f"{kind} {base} {settings!r}: {'ok' if not failures else 'DIFFERS'}, logits off by {worst:.1e} relative")
        for failure in failures[:10]:
            print("   ", failure)
        bad += bool(failures)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
