#!/usr/bin/env python3
"""Writes the inputs that fuzzing begins with, from the fixtures: seeds.py FIXTURES OUTPUT."""

import gzip
import json
import pathlib
import subprocess
import sys

SMALL = 200_000  # bytes; larger files are slow to change at random
VOCABULARY = 300
TEXT = 4000  # bytes; the parsers of text need no long ones


def small_tokenizer(path):
    """A tokenizer.json with the beginning of its vocabulary."""
    tokenizer = json.loads(path.read_text())
    model = tokenizer["model"]
    vocabulary = model.get("vocab", {})
    if isinstance(vocabulary, dict):
        kept = dict(list(sorted(vocabulary.items(), key=lambda entry: entry[1]))[:VOCABULARY])
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model.get("merges", [])]
        model["vocab"] = kept
        if "merges" in model:
            model["merges"] = [pair for pair in pairs if all(part in kept for part in [*pair, "".join(pair)])]
    else:
        model["vocab"] = vocabulary[:VOCABULARY]
    return json.dumps(tokenizer, ensure_ascii=False).encode()


def plugin_library(folder):
    """A library with the manifest of a plugin and no code."""
    manifest = json.dumps({"format": 1, "id": "acme.losses", "version": "1.0.0", "tier": "exact_cxx", "abi": [1, 0],
                           "fingerprint": "cxx=20", "license": "MIT", "requires": ["acme.base >= 1.2, < 2"],
                           "conflicts": [], "components": []})
    source = folder / "plugin.c"
    source.write_text(f'__attribute__((section(".espalier.manifest"), used)) static const char text[] = {json.dumps(manifest)};\n'
                      "int espalier_plugin(void) { return 0; }\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-nostdlib", "-s", "-o", folder / "plugin.so", source], check=True)
    library = (folder / "plugin.so").read_bytes()
    for name in ("plugin.c", "plugin.so"):
        (folder / name).unlink()
    return library


def main():
    fixtures, output = map(pathlib.Path, sys.argv[1:])
    output.mkdir(parents=True, exist_ok=True)
    repository = fixtures.parent.parent

    def files(*patterns):
        return [path.read_bytes() for pattern in patterns for path in sorted(fixtures.glob(pattern))
                if path.is_file() and path.stat().st_size <= SMALL]

    templates = json.loads((fixtures / "chat_templates" / "cases.json").read_text())["templates"]
    texts = templates.values() if isinstance(templates, dict) else templates
    seeds = {
        "safetensors": files("bad_safetensors/*.safetensors", "gguf/*k_mix*.safetensors", "lora/*/adapter_model.safetensors"),
        "gguf": files("gguf/*.gguf"),
        "torch": files("state_dict/*.bin", "state_dict/hostile/*.bin"),
        "tokenizer": [small_tokenizer(path) for path in sorted(fixtures.glob("tokenizers/*/tokenizer.json"))],
        "template": [text.encode() if isinstance(text, str) else json.dumps(text).encode() for text in texts],
        "recipe": [path.read_bytes() for path in sorted(repository.glob("examples/*.toml"))] +
                  [path.read_bytes() for path in sorted(repository.glob("sdk/template/*/recipe.toml"))],
        "yaml": files("automodel/*.yaml"),
        "plugin": [plugin_library(output)],
        "json_records": [content[:TEXT] for content in files("data/*.jsonl", "data/squad_v1.json")] +
                        [b'a,"b ""c"""\r\n1,2\n', gzip.compress(b'{"a": [1, {"b": null}]}\n')],
        "parquet": files("data/parquet/*.parquet"),
    }
    for target, inputs in seeds.items():
        found = fixtures / "fuzz" / target
        inputs += [path.read_bytes() for path in sorted(found.glob("*"))] if found.is_dir() else []
        folder = output / target
        folder.mkdir(exist_ok=True)
        for number, content in enumerate(inputs):
            (folder / f"seed_{number:03}").write_bytes(content)
        print(f"{target}: {len(inputs)} seeds")


if __name__ == "__main__":
    main()
