#!/usr/bin/env python3
"""Damaged and wrong files, each answered with one clear error.

    bad_files_test.py ESPALIER FIXTURES [NAME ...]

Every case makes its files, runs one command and compares with what is written beside it: the exit code and the phrases
of the message that a reader needs. None may crash, print a stack trace, or leave something half-written behind.
"""

import concurrent.futures
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

from training_curves import read_safetensors, write_int64

BAD_INPUT, BAD_PLUGIN, UNSUPPORTED, IO = 2, 3, 4, 5
NEVER = ("terminate called", "Segmentation", "frame #", "Exception raised", "core dumped", "basic_string", "this is a bug",
         "vector::", "std::")
CASES = []

RECIPE = """output_dir = "{run}"
[model]
path = "{model}"
[dataset]
type = "pretokenized"
path = "{data}"
[step_scheduler]
global_batch_size = 2
local_batch_size = 2
max_steps = 2
[optimizer]
type = "adamw"
lr = 1e-3
[lr_scheduler]
type = "cosine"
"""


def case(code, *phrases):
    """Registers a function (place) -> arguments of the program as a case."""
    def register(function):
        CASES.append((function.__name__, function, code, phrases))
        return function
    return register


class Place:
    """A folder with everything that a run needs, to be damaged."""

    def __init__(self, folder, fixtures):
        self.folder, self.fixtures = folder, fixtures
        self.model = folder / "model"
        shutil.copytree(fixtures / "models" / "llama", self.model, ignore=shutil.ignore_patterns("sharded", "bf16"))
        self.data = folder / "data.safetensors"
        shutil.copy(fixtures / "training" / "full_adamw" / "data.safetensors", self.data)
        for path in folder.rglob("*"):
            path.chmod(0o755)
        self.run = folder / "run"
        self.text = RECIPE.format(run=self.run, model=self.model, data=self.data)
        self.program = None

    def train(self, text=None, *options):
        path = self.folder / "recipe.toml"
        path.write_bytes(text if isinstance(text, bytes) else (text or self.text).encode())
        return ["train", path, "--quiet", *options]

    def score(self, source=None):
        return ["score", "--model", self.model, "--input", source or self.model / "expected.safetensors", "--output",
                self.folder / "out.safetensors", "--logits"]

    def config(self, **changes):
        path = self.model / "config.json"
        config = json.loads(path.read_text())
        for key, value in changes.items():
            config.pop(key, None)
            if value is not None:
                config[key] = value
        path.write_text(json.dumps(config))
        return self.score()

    def cut(self, path, keep):
        path.write_bytes(path.read_bytes()[:keep])

    def checkpoint(self):
        """The folder of the newest checkpoint of a finished run."""
        subprocess.run([self.program, *map(str, self.train())], check=True)
        return self.run / "checkpoints" / "step-00000002"

    def gguf(self, change):
        path = self.folder / "model.gguf"
        raw = bytearray((self.fixtures / "gguf" / "llama_q4_1.gguf").read_bytes())
        path.write_bytes(bytes(change(raw)))
        return ["import", path, self.folder / "imported"]


# --- recipes ---

@case(IO, "no_such.toml")
def recipe_is_missing(place):
    return ["train", place.folder / "no_such.toml"]


@case(BAD_INPUT, "recipe.toml:2:")
def recipe_is_no_toml(place):
    return place.train(place.text.replace("[model]", "[model"))


@case(BAD_INPUT, "recipe.toml")
def recipe_is_no_utf8(place):
    return place.train(b'output_dir = "\xff\xfe"\n')


@case(BAD_INPUT, "model")
def recipe_is_empty(place):
    return place.train("\n")


@case(BAD_INPUT, "recipe.toml:11:2", "optimiser", "optimizer")
def section_is_misspelt(place):
    return place.train(place.text.replace("[optimizer]", "[optimiser]"))


@case(BAD_INPUT, "recipe.toml:13:1", "weight_decoy", "weight_decay")
def key_is_misspelt(place):
    return place.train(place.text.replace("lr = 1e-3", "weight_decoy = 0.1"))


@case(BAD_INPUT, "recipe.toml:13:", "fast", "number")
def value_has_the_wrong_type(place):
    return place.train(place.text.replace("1e-3", '"fast"'))


@case(BAD_INPUT, "recipe.toml:10:", "max_steps")
def value_is_out_of_range(place):
    return place.train(place.text.replace("max_steps = 2", "max_steps = -2"))


@case(BAD_INPUT, "adamv", "adamw", "recipe.toml:12:")
def component_is_misspelt(place):
    return place.train(place.text.replace('"adamw"', '"adamv"'))


@case(BAD_INPUT, "recipe.toml:3:", "recipe.toml:13:")
def two_mistakes_are_both_reported(place):
    return place.train(place.text.replace("1e-3", '"fast"').replace(f'"{place.model}"', "3"))


@case(BAD_INPUT, "ESPALIER_NO_SUCH_VARIABLE")
def variable_is_not_set(place):
    return place.train(place.text.replace(str(place.run), "${ESPALIER_NO_SUCH_VARIABLE}"))


@case(BAD_INPUT, "recipe.toml:14:")
def key_is_there_twice(place):
    return place.train(place.text.replace("lr = 1e-3", "lr = 1e-3\nlr = 2e-3"))


@case(BAD_INPUT, "optimizer.lrr", "lr")
def override_is_misspelt(place):
    return place.train(None, "--optimizer.lrr=1")


# --- model folders ---

@case(BAD_INPUT, "nowhere")
def model_is_missing(place):
    return place.train(place.text.replace(str(place.model), "nowhere/at/all"))


@case(BAD_INPUT, "config.json")
def config_is_missing(place):
    (place.model / "config.json").unlink()
    return place.score()


@case(BAD_INPUT, "config.json:")
def config_is_cut_off(place):
    place.cut(place.model / "config.json", 100)
    return place.score()


@case(BAD_INPUT, "config.json", "hidden_size")
def config_has_text_for_a_number(place):
    return place.config(hidden_size="wide")


@case(BAD_INPUT, "config.json", "hidden_size")
def config_lacks_a_key(place):
    return place.config(hidden_size=None)


@case(BAD_INPUT, "config.json", "num_hidden_layers")
def config_has_a_negative_size(place):
    return place.config(num_hidden_layers=-1)


@case(BAD_INPUT, "num_key_value_heads")
def config_has_heads_that_do_not_divide(place):
    return place.config(num_key_value_heads=3)


@case(UNSUPPORTED, "LlmaForCausalLM", "LlamaForCausalLM")
def architecture_is_unknown(place):
    return place.config(architectures=["LlmaForCausalLM"])


@case(BAD_INPUT, "model.safetensors")
def weights_are_missing(place):
    (place.model / "model.safetensors").unlink()
    return place.score()


@case(BAD_INPUT, "model.safetensors")
def weights_are_cut_off(place):
    place.cut(place.model / "model.safetensors", 100000)
    return place.score()


@case(BAD_INPUT, "model.safetensors")
def weights_are_empty(place):
    place.cut(place.model / "model.safetensors", 0)
    return place.score()


@case(BAD_INPUT, "model.safetensors")
def weights_are_something_else(place):
    (place.model / "model.safetensors").write_text("<html>Not found</html>\n" * 100)
    return place.score()


@case(BAD_INPUT, "model.layers.2")
def weights_lack_a_layer(place):
    return place.config(num_hidden_layers=3)


@case(BAD_INPUT, "model.embed_tokens.weight", "[")
def weights_have_another_shape(place):
    config = json.loads((place.model / "config.json").read_text())
    return place.config(vocab_size=config["vocab_size"] + 1)


@case(BAD_INPUT, "model-00002-of-00004.safetensors")
def shard_is_missing(place):
    shutil.rmtree(place.model)
    shutil.copytree(place.fixtures / "models" / "llama" / "sharded", place.model)
    (place.model / "model-00002-of-00004.safetensors").unlink()
    return place.score(place.fixtures / "models" / "llama" / "expected.safetensors")


@case(BAD_INPUT, "model.safetensors.index.json")
def index_is_cut_off(place):
    shutil.rmtree(place.model)
    shutil.copytree(place.fixtures / "models" / "llama" / "sharded", place.model)
    (place.model / "model.safetensors.index.json").chmod(0o644)
    place.cut(place.model / "model.safetensors.index.json", 700)
    return place.score(place.fixtures / "models" / "llama" / "expected.safetensors")


# --- batches and data ---

@case(IO, "nothing.safetensors")
def input_is_missing(place):
    return place.score(place.folder / "nothing.safetensors")


@case(BAD_INPUT, "input_ids")
def input_has_no_ids(place):
    write_int64(place.folder / "in.safetensors", {"labels": ([1, 4], [1, 2, 3, 4])})
    return place.score(place.folder / "in.safetensors")


@case(BAD_INPUT, "model.embed_tokens", "5000000", "0 to 255")
def input_has_an_id_outside_of_the_vocabulary(place):
    write_int64(place.folder / "in.safetensors", {"input_ids": ([1, 4], [1, 2, 3, 5000000])})
    return place.score(place.folder / "in.safetensors")


@case(BAD_INPUT, "labels")
def input_has_labels_of_another_shape(place):
    write_int64(place.folder / "in.safetensors", {"input_ids": ([1, 4], [1, 2, 3, 4]), "labels": ([1, 3], [1, 2, 3])})
    return place.score(place.folder / "in.safetensors")


@case(IO, "no/such/folder")
def output_folder_is_missing(place):
    arguments = place.score()
    arguments[arguments.index("--output") + 1] = place.folder / "no/such/folder/out.safetensors"
    return arguments


@case(IO, "gone.safetensors")
def data_is_missing(place):
    return place.train(place.text.replace("data.safetensors", "gone.safetensors"))


@case(BAD_INPUT, "data.safetensors", "labels")
def data_has_no_labels(place):
    ids = read_safetensors(place.data)["input_ids"]
    write_int64(place.data, {"input_ids": ids})
    return place.train()


@case(BAD_INPUT, "data.safetensors")
def data_is_cut_off(place):
    place.cut(place.data, 500)
    return place.train()


@case(BAD_INPUT, "5000000")
def data_has_an_id_outside_of_the_vocabulary(place):
    tensors = read_safetensors(place.data)
    shape, values = tensors["input_ids"]
    write_int64(place.data, {"input_ids": (shape, [5000000] + list(values[1:])), "labels": tensors["labels"]})
    return place.train()


# --- run folders and checkpoints ---

@case(IO, "/proc/espalier")
def run_folder_cannot_be_made(place):
    return place.train(place.text.replace(str(place.run), "/proc/espalier"))


@case(IO, "taken/run")
def run_folder_is_below_a_file(place):
    (place.folder / "taken").write_text("")
    return place.train(place.text.replace(str(place.run), str(place.folder / "taken" / "run")))


@case(BAD_INPUT, "--resume", "elsewhere")
def resumed_checkpoint_is_missing(place):
    return place.train(None, "--resume", place.folder / "elsewhere")


@case(BAD_INPUT, "state.json")
def state_of_a_checkpoint_is_cut_off(place):
    place.cut(place.checkpoint() / "state.json", 20)
    return place.train()


@case(BAD_INPUT, "format 99", "format 1")
def checkpoint_is_of_another_version(place):
    path = place.checkpoint() / "state.json"
    state = json.loads(path.read_text())
    state["format_version"] = 99
    path.write_text(json.dumps(state))
    return place.train()


@case(BAD_INPUT, "step-00000002/model.safetensors")
def weights_of_a_checkpoint_are_cut_off(place):
    place.cut(place.checkpoint() / "model.safetensors", 5000)
    return place.train()


@case(IO, "optimizer.safetensors")
def optimizer_state_of_a_checkpoint_is_missing(place):
    (place.checkpoint() / "optimizer.safetensors").unlink()
    return place.train()


@case(BAD_INPUT, "exp_avg", "--resume never")
def checkpoint_is_of_another_optimizer(place):
    checkpoint = place.checkpoint()
    path = checkpoint / "optimizer.safetensors"
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b'"exp_avg.', b'"exp_xyz.'))
    return place.train()


@case(BAD_INPUT, "another model")
def checkpoint_is_of_another_model(place):
    place.checkpoint()
    shutil.rmtree(place.model)
    shutil.copytree(place.fixtures / "models" / "llama_tied", place.model)
    return place.train()


# --- GGUF ---

@case(BAD_INPUT, "model.gguf")
def gguf_is_cut_off(place):
    return place.gguf(lambda raw: raw[:len(raw) // 2])


@case(BAD_INPUT, "model.gguf", "GGUF")
def gguf_is_something_else(place):
    return place.gguf(lambda raw: b"PK\x03\x04" + raw[4:])


@case(UNSUPPORTED, "model.gguf", "99")
def gguf_is_of_another_version(place):
    return place.gguf(lambda raw: raw[:4] + struct.pack("<I", 99) + raw[8:])


@case(BAD_INPUT, "model.gguf")
def gguf_claims_more_tensors_than_it_has(place):
    return place.gguf(lambda raw: raw[:8] + struct.pack("<Q", 2**60) + raw[16:])


# --- text ---

def tokenize(place, lines, **changes):
    """Tokenizes lines with the gpt2 tokenizer, its tokenizer.json changed."""
    folder = place.folder / "tokenizer"
    shutil.copytree(place.fixtures / "tokenizers" / "gpt2", folder)
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer.update(changes)
    path.chmod(0o644)
    path.write_text(json.dumps(tokenizer))
    (place.folder / "in.jsonl").write_bytes(lines)
    return ["tokenize", "--model", folder, "--input", place.folder / "in.jsonl", "--json"]


@case(BAD_INPUT, "tokenizer.json")
def tokenizer_is_missing(place):
    arguments = tokenize(place, b'{"text": "a"}\n')
    (place.folder / "tokenizer" / "tokenizer.json").unlink()
    return arguments


@case(BAD_INPUT, "tokenizer.json")
def tokenizer_is_cut_off(place):
    arguments = tokenize(place, b'{"text": "a"}\n')
    place.cut(place.folder / "tokenizer" / "tokenizer.json", 1000)
    return arguments


@case(BAD_INPUT, "tokenizer.json", "Foo")
def tokenizer_has_an_unknown_model(place):
    return tokenize(place, b'{"text": "a"}\n', model={"type": "Foo", "vocab": {}})


@case(BAD_INPUT, "tokenizer.json", "merges")
def tokenizer_merges_what_is_no_token(place):
    return tokenize(place, b'{"text": "a"}\n', model={"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"]})


@case(BAD_INPUT, "in.jsonl:2")
def line_is_no_json(place):
    return tokenize(place, b'{"text": "a"}\n{"text": \n')


@case(BAD_INPUT, "in.jsonl:1", "text")
def line_has_no_text(place):
    return tokenize(place, b'{"txt": "a"}\n')


@case(BAD_INPUT, "in.jsonl:1")
def line_is_no_utf8(place):
    return tokenize(place, b'{"text": "\xff\xfe"}\n')


# --- plugins ---

@case(IO, "gone.espalier.so")
def plugin_is_missing(place):
    return place.train(None, "--plugins", place.folder / "gone.espalier.so")


@case(BAD_PLUGIN, "text.espalier.so")
def plugin_is_a_text(place):
    (place.folder / "text.espalier.so").write_text("no library")
    return place.train(None, "--plugins", place.folder / "text.espalier.so")


def leftovers(place):
    return [path for path in place.folder.rglob("*")
            if ".tmp." in path.name or path.name.startswith((".saving", ".removing")) or path.suffix in (".writing", ".old")]


def check(program, fixtures, function, code, phrases):
    with tempfile.TemporaryDirectory() as folder:
        place = Place(pathlib.Path(folder).resolve(), fixtures)
        place.program = program
        arguments = [str(word) for word in function(place)]
        result = subprocess.run([program, *arguments], capture_output=True, timeout=120, env=dict(os.environ, OMP_NUM_THREADS="1"))
        message = result.stderr.decode(errors="replace")
        found = []
        if result.returncode != code:
            found.append(f"exit code {result.returncode}, expected {code}")
        found += [f"the message lacks '{phrase}'" for phrase in phrases if phrase not in message]
        found += [f"the message has '{phrase}'" for phrase in NEVER if phrase in message]
        if not message.startswith("error: "):
            found.append("the message does not start with 'error: '")
        found += [f"{path.name} was left behind" for path in leftovers(place)]
        if (place.folder / "out.safetensors").exists() or (place.folder / "imported").exists():
            found.append("an output was written")
        return found, message


def main():
    program, fixtures, names = sys.argv[1], pathlib.Path(sys.argv[2]).resolve(), sys.argv[3:]
    chosen = [item for item in CASES if not names or item[0] in names]
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda item: check(program, fixtures, *item[1:]), chosen)
        for (name, *_), (found, message) in zip(chosen, results):
            bad += bool(found)
            if found or names:
                print(f"{name}: {'; '.join(found) or 'ok'}\n    " + message.replace("\n", "\n    "), flush=True)
    print(f"{len(chosen)} bad files, {bad} with another answer than expected")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
