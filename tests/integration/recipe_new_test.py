#!/usr/bin/env python3
"""`espalier recipe new` recognises data and writes recipes that train as they are: recipe_new_test.py ESPALIER FIXTURES"""

import csv
import json
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import tomllib

from training_curves import write_int64

PROGRAM, FIXTURES = sys.argv[1], pathlib.Path(sys.argv[2])


def run(*words, code=0, cwd=None):
    result = subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True, cwd=cwd)
    assert result.returncode == code, (words, result.returncode, result.stderr[-3000:])
    return result


def text_model(folder, weights):
    """A small model with a tokenizer and a chat template, with weights or without."""
    shutil.copytree(FIXTURES / "tokenizers" / "smollm", folder)
    config = json.loads((FIXTURES / "models" / "llama" / "config.json").read_text())
    config.update(vocab_size=1024, max_position_embeddings=128)
    (folder / "config.json").write_text(json.dumps(config))
    if weights:
        recipe = folder.parent / "weights.toml"
        recipe.write_text(f'output_dir = "{folder.parent}/weights"\n[model]\npath = "{folder}"\nfrom_config = true\n'
                          '[dataset]\ntype = "mock"\nvocab_size = 256\nseq_length = 8\nnum_samples = 8\n'
                          '[step_scheduler]\nglobal_batch_size = 8\nmax_steps = 1\n')
        run("train", recipe, "--quiet")
        shutil.rmtree(folder)
        (folder.parent / "weights/final").rename(folder)
    return folder


def jsonl(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def words(number):
    return "once upon a time there was a dog " * (1 + number % 3) + str(number)


def nanogpt(path):
    tokens = [t % 256 for t in range(4000)]
    path.write_bytes(struct.pack("<256i", 278895051, 1, len(tokens), 2, *[0] * 252) + struct.pack(f"<{len(tokens)}H", *tokens))
    return path


def megatron(stem):
    lengths = [500] * 8
    tokens = [t % 256 for t in range(sum(lengths))]
    stem.with_suffix(".bin").write_bytes(struct.pack(f"<{len(tokens)}i", *tokens))
    places = [4 * sum(lengths[:i]) for i in range(len(lengths))]
    stem.with_suffix(".idx").write_bytes(
        b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 4, len(lengths), len(lengths) + 1)
        + struct.pack(f"<{len(lengths)}i", *lengths) + struct.pack(f"<{len(lengths)}q", *places)
        + struct.pack(f"<{len(lengths) + 1}q", *range(len(lengths) + 1)))
    return stem.with_suffix(".bin")


def kinds(work):
    """(name, data, type of the dataset, further settings that the recipe has)."""
    n = range(80)
    yield "messages", FIXTURES / "data/chat.jsonl", "chat", {}
    yield "sharegpt", jsonl(work / "sharegpt.jsonl", [{"conversations": [
        {"from": "human", "value": words(i)}, {"from": "gpt", "value": words(i + 1)}]} for i in n]), "chat", {}
    yield "alpaca", jsonl(work / "alpaca.jsonl", [{"instruction": "Say", "input": words(i), "output": words(i)} for i in n]), \
        "column_mapped", {"dataset.column_mapping": {"context": "instruction", "question": "input", "answer": "output"}}
    with (work / "pairs.csv").open("w") as file:
        table = csv.writer(file)
        table.writerow(["prompt", "completion"])
        table.writerows([words(i), words(i + 1)] for i in n)
    yield "csv", work / "pairs.csv", "column_mapped", {"dataset.column_mapping": {"question": "prompt", "answer": "completion"}}
    yield "squad", FIXTURES / "data/squad_v1.json", "squad", {}
    yield "squad_flat", FIXTURES / "data/squad_flat.jsonl", "squad", {}
    yield "hellaswag", jsonl(work / "hellaswag.jsonl", [
        {"ctx": words(i), "endings": ["a", "b", "c", "d"], "label": str(i % 4)} for i in n]), "hellaswag", {}
    yield "preference", jsonl(work / "preference.jsonl", [
        {"prompt": words(i), "chosen": "yes", "rejected": "no"} for i in n]), "preference", \
        {"objective.type": "dpo", "peft.match_all_linear": True, "optimizer.lr": 2e-4}
    yield "text", jsonl(work / "text.jsonl", [{"text": words(i)} for i in n]), "pretraining_text", {"dataset.seq_length": 128}
    (work / "plain.txt").write_text("\n".join(words(i) for i in n))
    yield "plain", work / "plain.txt", "pretraining_text", {}
    yield "labels", jsonl(work / "labels.jsonl", [{"text": words(i), "label": i % 3} for i in n]), "text_classification", \
        {"model.task": "sequence_classification", "model.config": {"num_labels": 3}}
    yield "names", jsonl(work / "names.jsonl", [{"text": words(i), "label": "bgt"[i % 3]} for i in n]), "text_classification", \
        {"dataset.label_names": ["b", "g", "t"], "model.config": {"num_labels": 3}}
    yield "vectors", jsonl(work / "vectors.jsonl", [{"query": words(i), "positive": words(i + 1)} for i in n]), "text_pairs", \
        {"model.task": "embedding", "objective.type": "contrastive"}
    yield "anchors", jsonl(work / "anchors.jsonl", [{"anchor": words(i), "positive": words(i + 1)} for i in n]), "text_pairs", \
        {"dataset.query_column": "anchor"}
    yield "tags", jsonl(work / "tags.jsonl", [{"tokens": ["a", "dog"], "ner_tags": [0, i % 2]} for i in n]), "tagged_words", \
        {"model.task": "token_classification", "dataset.tags_column": "ner_tags", "model.config": {"num_labels": 2}}
    rows = {name: ([40, 12], [i % 200 for i in range(480)]) for name in ("input_ids", "labels")}
    write_int64(work / "ids.safetensors", rows)
    yield "ids", work / "ids.safetensors", "pretokenized", {}
    yield "shards", nanogpt(work / "shard.bin"), "nanogpt", {"dataset.seq_len": 128}
    yield "index", megatron(work / "corpus"), "megatron", {"dataset.paths": str(work / "corpus")}
    folder = work / "several"
    folder.mkdir()
    for i in range(3):
        jsonl(folder / f"part{i}.jsonl", [{"text": words(i)} for i in n])
    yield "several", folder, "pretraining_text", {}


def value_at(tree, path):
    for key in path.split("."):
        tree = tree[key]
    return tree


def check_kinds(work):
    model = text_model(work / "model", weights=False)
    for name, data, kind, settings in kinds(work):
        path = work / f"{name}.toml"
        told = run("recipe", "new", "--model", model, "--data", data, "--output", path, cwd=work).stdout
        text = path.read_text()
        recipe = tomllib.loads(text)
        assert recipe["dataset"]["type"] == kind, (name, recipe)
        for key, value in settings.items():
            assert value_at(recipe, key) == value, (name, key, recipe)
        assert recipe["model"]["from_config"] is True and "random ones" in told, name
        assert recipe["optimizer"]["lr"] == (2e-4 if "peft" in recipe else 3e-4)
        assert f"Taken for '{kind}' because of" in text and "samples" in told, name
        assert ("split" in recipe["dataset"]) == ("validation_dataset" in recipe), name
        # It trains as it is; two steps of it are enough here.
        run("train", path, "--quiet", "--step_scheduler.max_steps=2", cwd=work)
        lines = (work / "runs" / name / "training.jsonl").read_text().splitlines()
        assert 1 <= len(lines) <= 2 and (work / "runs" / name / "final").exists(), name
        print(" ", name)


def check_choices(work):
    """Memory decides between all weights and an adapter, lengths about packing, size about validation."""
    model = text_model(work / "model", weights=True)
    chat = FIXTURES / "data/chat.jsonl"
    path = work / "full.toml"
    run("recipe", "new", "--model", model, "--data", chat, "--output", path, "--memory", "64", cwd=work)
    full = tomllib.loads(path.read_text())
    assert "peft" not in full and "from_config" not in full["model"] and full["optimizer"]["lr"] == 1e-5, full
    run("train", path, "--quiet", cwd=work)  # to its end
    # A plan has the program itself in it: what is left for weights is next to nothing.
    path = work / "adapter.toml"
    told = run("recipe", "new", "--model", model, "--data", chat, "--output", path, "--memory", "0.2892", cwd=work).stdout
    adapter = tomllib.loads(path.read_text())
    assert adapter["peft"]["match_all_linear"] is True and "more than fits" in told, (told, adapter)
    assert adapter["step_scheduler"]["local_batch_size"] < full["step_scheduler"]["local_batch_size"], adapter
    run("train", path, "--quiet", "--step_scheduler.max_steps=1", cwd=work)
    assert (work / "runs/adapter/final/adapter_model.safetensors").exists()
    # Lengths that differ much are packed.
    uneven = jsonl(work / "uneven.jsonl", [{"prompt": "a", "completion": "dog " * (60 if i % 8 == 0 else 1)} for i in range(200)])
    path = work / "uneven.toml"
    run("recipe", "new", "--model", model, "--data", uneven, "--output", path, cwd=work)
    recipe = tomllib.loads(path.read_text())
    assert recipe["packed_sequence"]["packed_sequence_size"] == 128, recipe
    assert recipe["validation_dataset"]["split"] == "train[95%:]" and recipe["checkpoint"]["best_metric"] == "validation.loss"
    run("train", path, "--quiet", cwd=work)
    few = jsonl(work / "few.jsonl", [{"prompt": "a", "completion": words(i)} for i in range(10)])
    path = work / "few.toml"
    run("recipe", "new", "--model", model, "--data", few, "--output", path, cwd=work)
    recipe = tomllib.loads(path.read_text())
    assert "validation_dataset" not in recipe and "split" not in recipe["dataset"]
    run("train", path, "--quiet", cwd=work)
    # A value that looks like a variable stays a value.
    odd = jsonl(work / "${HOME}.jsonl", [{"text": words(i)} for i in range(10)])
    path = work / "odd.toml"
    run("recipe", "new", "--model", model, "--data", odd, "--output", path, cwd=work)
    run("train", path, "--quiet", "--step_scheduler.max_steps=1", cwd=work)


def check_bad_input(work):
    model = text_model(work / "model", weights=False)
    plain = work / "bare"
    shutil.copytree(FIXTURES / "models/llama", plain)
    unknown = jsonl(work / "unknown.jsonl", [{"colour": "red", "size": 3}])
    broken = work / "broken.jsonl"
    broken.write_text("{nothing")
    bad_pair = jsonl(work / "bad.jsonl", [{"prompt": "a", "completion": 7}])
    there = work / "there.toml"
    there.write_text("mine")
    new = work / "new.toml"
    chat = FIXTURES / "data/chat.jsonl"
    for data, use, output, said, code in [
            (unknown, model, new, ["no dataset is known for this data", "colour, size", "messages"], 2),
            (broken, model, new, ["no dataset is known"], 2), (bad_pair, model, new, ["bad.jsonl:1"], 2),
            (work / "missing.jsonl", model, new, ["missing.jsonl"], 2), (chat, work / "nowhere", new, ["nowhere"], 2),
            (chat, plain, new, ["tokenizer"], 2), (chat, model, there, ["is there already", "--force"], 2),
            (chat, model, work / "no_folder" / "a.toml", ["no_folder"], 5)]:
        error = run("recipe", "new", "--model", use, "--data", data, "--output", output, code=code).stderr
        assert all(word in error for word in said), (said, error)
        assert not new.exists()
    assert there.read_text() == "mine"
    run("recipe", "new", "--model", model, "--data", chat, "--output", there, "--force")
    assert "[dataset]" in there.read_text()
    assert "--memory" in run("recipe", "new", "--model", model, "--data", chat, "--output", new, "--memory", "-1", code=2).stderr
    run("recipe", "new", "--model", model, code=2)


def main():
    for check in [check_kinds, check_choices, check_bad_input]:
        with tempfile.TemporaryDirectory() as temporary:
            check(pathlib.Path(temporary))
        print(check.__name__)


if __name__ == "__main__":
    main()
