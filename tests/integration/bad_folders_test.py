#!/usr/bin/env python3
"""Model folders that are no models, or not the ones that they say they are, each answered with one clear error.

    bad_folders_test.py ESPALIER FIXTURES [NAME ...]

Cases are made and judged as in bad_files_test.py. Each message also has to say where the mistake is and how to mend it.
"""

import json
import os
import shutil
import struct

import bad_files_test as harness
from bad_files_test import BAD_INPUT, IO, UNSUPPORTED

harness.CASES.clear()
case = harness.case


def cut_header(path):
    """Header and data of a safetensors file."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8:8 + length]), raw[8 + length:]


def put(path, header, data):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def change_weights(place, change):
    """Lets `change` edit the header and the data (a bytearray) of the weights."""
    path = place.model / "model.safetensors"
    header, data = cut_header(path)
    data = bytearray(data)
    change(header, data)
    put(path, header, bytes(data))
    return place.score()


def sharded(place, change):
    """The sharded checkpoint with an index that `change` edits."""
    expected = place.fixtures / "models" / "llama" / "expected.safetensors"
    shutil.rmtree(place.model)
    shutil.copytree(place.fixtures / "models" / "llama" / "sharded", place.model)
    for path in place.model.iterdir():
        path.chmod(0o644)
    path = place.model / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index["weight_map"])
    path.write_text(json.dumps(index))
    return place.score(expected)


def emptied(place):
    shutil.rmtree(place.model)
    place.model.mkdir()
    return place.model


def score_elsewhere(place):
    return place.score(place.fixtures / "models" / "llama" / "expected.safetensors")


# --- what is no model folder at all ---

@case(BAD_INPUT, "is empty", "config.json")
def folder_is_empty(place):
    emptied(place)
    return score_elsewhere(place)


@case(BAD_INPUT, "adapter", "--adapter")
def folder_is_an_adapter(place):
    folder = emptied(place)
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return score_elsewhere(place)


@case(BAD_INPUT, "GGUF", "espalier import")
def folder_holds_a_gguf_file(place):
    shutil.copy(place.fixtures / "gguf" / "llama_q4_1.gguf", emptied(place) / "weights.gguf")
    return score_elsewhere(place)


@case(BAD_INPUT, "is a file", "espalier import")
def model_is_a_gguf_file(place):
    expected = place.model / "expected.safetensors"
    path = place.folder / "weights.gguf"
    shutil.copy(place.fixtures / "gguf" / "llama_q4_1.gguf", path)
    return ["score", "--model", path, "--input", expected, "--output", place.folder / "out.safetensors"]


@case(BAD_INPUT, "is a file", "folder")
def model_is_its_weights(place):
    return ["score", "--model", place.model / "model.safetensors", "--input", place.model / "expected.safetensors",
            "--output", place.folder / "out.safetensors"]


@case(BAD_INPUT, "config.json", "inner")
def model_is_one_folder_deeper(place):
    inner = place.folder / "whole"
    place.model.rename(inner)
    place.model.mkdir()
    inner.rename(place.model / "inner")
    return score_elsewhere(place)


@case(IO, "loop", "symbolic links")
def folder_is_a_loop_of_links(place):
    (place.folder / "loop").symlink_to(place.folder / "pool")
    (place.folder / "pool").symlink_to(place.folder / "loop")
    return ["score", "--model", place.folder / "loop", "--input", place.model / "expected.safetensors",
            "--output", place.folder / "out.safetensors"]


@case(IO, "config.json")
def config_is_a_loop_of_links(place):
    (place.model / "config.json").unlink()
    (place.model / "config.json").symlink_to("config.json")
    return place.score()


if os.geteuid() != 0:  # root reads everything
    @case(IO, "config.json", "Permission denied")
    def config_must_not_be_read(place):
        (place.model / "config.json").chmod(0)
        return place.score()

    @case(IO, "Permission denied")
    def weights_must_not_be_read(place):
        (place.model / "model.safetensors").chmod(0)
        return place.score()


# --- config.json ---

@case(BAD_INPUT, "no JSON object", "a list")
def config_is_a_list(place):
    (place.model / "config.json").write_text("[1, 2]")
    return place.score()


@case(UNSUPPORTED, "architectures", "--plugin-path")
def config_names_no_architecture(place):
    return place.config(architectures=None, model_type=None)


@case(UNSUPPORTED, "llamma", "'llama'")
def model_type_is_misspelt(place):
    return place.config(architectures=None, model_type="llamma")


@case(UNSUPPORTED, "NovelForCausalLM", "auto_map", "never run")
def model_brings_code(place):
    return place.config(architectures=["NovelForCausalLM"], model_type="novel",
                        auto_map={"AutoModelForCausalLM": "modeling_novel.NovelForCausalLM"})


@case(UNSUPPORTED, "quantised", "gptq", "unquantised")
def checkpoint_is_quantised(place):
    return place.config(quantization_config={"quant_method": "gptq", "bits": 4})


@case(UNSUPPORTED, "quantised", "fp8")
def checkpoint_is_fp8(place):
    return place.config(quantization_config={"quant_method": "fp8"})


@case(BAD_INPUT, "config.json", "rope")
def rope_scaling_is_unknown(place):
    return place.config(rope_scaling={"rope_type": "spiral", "factor": 2.0}, rope_parameters=None)


@case(BAD_INPUT, "config.json", "hidden_act", "sillu")
def activation_is_unknown(place):
    return place.config(hidden_act="sillu")


@case(BAD_INPUT, "num_labels", "0")
def classifier_has_no_labels(place):
    return place.config(architectures=["LlamaForSequenceClassification"], num_labels=0)


# --- weights ---

@case(BAD_INPUT, "model.norm.weight", "NaN")
def weights_hold_nan(place):
    def change(header, data):
        begin, _ = header["model.norm.weight"]["data_offsets"]
        data[begin:begin + 4] = struct.pack("<f", float("nan"))
    return change_weights(place, change)


@case(BAD_INPUT, "model.norm.weight", "infinite")
def weights_hold_infinity(place):
    def change(header, data):
        begin, _ = header["model.norm.weight"]["data_offsets"]
        data[begin:begin + 4] = struct.pack("<f", float("inf"))
    return change_weights(place, change)


@case(BAD_INPUT, "model.norm.weight", "int32", "floating point")
def weights_are_whole_numbers(place):
    return change_weights(place, lambda header, data: header["model.norm.weight"].update(dtype="I32"))


@case(BAD_INPUT, "model.norm.weight", "missing")
def weights_lack_a_tensor(place):
    def change(header, data):
        header["model.norm.weird"] = header.pop("model.norm.weight")
    return change_weights(place, change)


@case(BAD_INPUT, "model.norm.weird", "belongs to no part")
def weights_have_a_tensor_too_many(place):
    def change(header, data):
        begin = len(data)
        data.extend(bytes(4))
        header["model.norm.weird"] = {"dtype": "F32", "shape": [1], "data_offsets": [begin, begin + 4]}
    return change_weights(place, change)


@case(BAD_INPUT, "model.norm.weight", "another shape")
def weights_are_of_another_width(place):
    def change(header, data):
        (width,) = header["model.norm.weight"]["shape"]
        header["model.norm.weight"]["shape"] = [width // 2, 2]
    return change_weights(place, change)


@case(BAD_INPUT, "model.embed_tokens.weight", "another shape")
def vocabulary_is_larger_than_the_embedding(place):
    return place.config(vocab_size=300)


@case(BAD_INPUT, "tie_word_embeddings = true", "lm_head.weight")
def head_is_missing(place):
    expected = place.model / "expected.safetensors"
    for name in ("config.json", "model.safetensors"):
        shutil.copy(place.fixtures / "models" / "llama_tied" / name, place.model / name)
        (place.model / name).chmod(0o644)
    assert expected.exists()
    return place.config(tie_word_embeddings=False)


@case(BAD_INPUT, "model-00009-of-00004.safetensors", "missing")
def index_names_a_file_that_is_not_there(place):
    def change(weight_map):
        weight_map["model.norm.weight"] = "model-00009-of-00004.safetensors"
    return sharded(place, change)


@case(BAD_INPUT, "model.layers.0.ghost", "is not")
def index_has_a_tensor_that_is_in_no_file(place):
    def change(weight_map):
        weight_map["model.layers.0.ghost"] = weight_map["model.norm.weight"]
    return sharded(place, change)


@case(BAD_INPUT, "model.norm.weight", "index")
def index_lacks_a_tensor(place):
    return sharded(place, lambda weight_map: weight_map.pop("model.norm.weight"))


@case(BAD_INPUT, "../elsewhere.safetensors")
def index_points_out_of_the_folder(place):
    def change(weight_map):
        weight_map["model.norm.weight"] = "../elsewhere.safetensors"
    return sharded(place, change)


@case(BAD_INPUT, "model-00001-of-00004.safetensors")
def shard_is_cut_off(place):
    arguments = sharded(place, lambda weight_map: None)
    place.cut(place.model / "model-00001-of-00004.safetensors", 5000)
    return arguments


# --- what the recipe says about a model ---

@case(BAD_INPUT, "model.config.rope_thetta", "rope_theta")
def override_is_of_no_key(place):
    return place.train(None, "--model.config.rope_thetta=1e6")


@case(BAD_INPUT, "model.config.hidden_size", "a string")
def override_is_of_another_type(place):
    return place.train(None, '--model.config.hidden_size="wide"')


@case(BAD_INPUT, "model.provider", "llama")
def provider_is_misspelt(place):
    return place.train(None, "--model.provider=llamma")


@case(UNSUPPORTED, "generate", "sequence_classification")
def generating_needs_a_language_model(place):
    shutil.rmtree(place.model)
    shutil.copytree(place.fixtures / "heads" / "llama_classes", place.model)
    return ["generate", "--model", place.model, "--prompt-ids", "3,4,5"]


# --- what lies beside the weights ---

@case(BAD_INPUT, "template", "no roles today")
def template_raises(place):
    (place.model / "chat_template.jinja").write_text("{{ raise_exception('no roles today') }}")
    (place.folder / "messages.json").write_text('[{"role": "user", "content": "a"}]')
    return ["template", "--model", place.model, "--messages", place.folder / "messages.json"]


@case(BAD_INPUT, "chat_template.jinja")
def template_is_no_template(place):
    (place.model / "chat_template.jinja").write_text("{% for message in messages %}")
    (place.folder / "messages.json").write_text('[{"role": "user", "content": "a"}]')
    return ["template", "--model", place.model, "--messages", place.folder / "messages.json"]


@case(BAD_INPUT, "0 to 255")
def tokenizer_is_of_a_larger_model(place):
    for path in (place.fixtures / "tokenizers" / "gpt2").iterdir():
        if path.name.startswith(("tokenizer", "special")):
            shutil.copy(path, place.model / path.name)
    return ["score", "--model", place.model, "--text", "An unusually long and rare sentence, Mississippi!"]


if __name__ == "__main__":
    harness.main()
