"""Writes tests/fixtures/tokenizers/conversions.json: folders without tokenizer.json, and the ids that transformers gives.

    python scripts/generate_tokenizer_conversions.py > tests/fixtures/tokenizers/conversions.json

Needs transformers, sentencepiece, tiktoken and mistral-common.
"""
import base64
import json
import os
import pathlib
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"

import sentencepiece
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from transformers import AutoTokenizer, logging

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "tests/fixtures/tokenizers"
TEXTS = ["", " ", "Hello world", "  Hello   world  ", "hello\n\nworld\t!", "naïve Straße", "你好世界, ok?", "😀👍🏽", "1234567", "don't I'LL",
         "def f(x):\n    return x", "<s>a</s>b", " <s> x", "▁x ▁▁y", "½ ﬁ ①", "e\u0301a\u0323\u0302", "<extra_id_0> <mask> <usr>", "\u200b\ufeffz",
         "[INST] hi [/INST]", "[CLS] HELLO [SEP]", "<|endoftext|>", "привет мир", "a" * 300, "<unk>", "x\u0000y", "नमस्ते"]
MAPPED = {chr(c): b for b, c in zip(
    [*range(33, 127), *range(161, 173), *range(174, 256), *(b for b in range(256) if not (33 <= b < 127 or 161 <= b < 173 or b >= 174))],
    [*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324)])}


def token(content, special=True):
    return {"content": content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": special}


def trained(**options):
    with tempfile.TemporaryDirectory() as folder:
        corpus = pathlib.Path(folder, "corpus.txt")
        corpus.write_text("\n".join(case["text"].replace("\0", "") for case in json.loads((FIXTURES / "gpt2/cases.json").read_text())) * 3)
        sentencepiece.SentencePieceTrainer.train(input=str(corpus), model_prefix=folder + "/m", num_threads=1, minloglevel=2,
                                                 hard_vocab_limit=False, **options)
        return pathlib.Path(folder, "m.model").read_bytes()


def ranks():
    vocab = json.loads((FIXTURES / "llama3/tokenizer.json").read_text())["model"]["vocab"]
    tokens = [bytes(MAPPED[c] for c in t) for t in sorted(vocab, key=vocab.get)[:700]]
    return [bytes([b]) for b in range(256)] + [t for t in tokens if len(t) > 1]


def folders():
    bpe, unigram = (FIXTURES / "spm_bpe/tokenizer.model").read_bytes(), (FIXTURES / "t5/tokenizer.model").read_bytes()
    yield "llama", {"tokenizer.model": bpe}, {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True}
    yield "llama_legacy", {"tokenizer.model": bpe}, {"tokenizer_class": "LlamaTokenizerFast", "legacy": True, "pad_token": "<pad>",
                                                     "added_tokens_decoder": {"800": token("<new>", False)}}
    yield "gemma", {"tokenizer.model": bpe}, {"tokenizer_class": "GemmaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True}
    yield "bpe", {"tokenizer.model": bpe}, {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": True}
    yield "t5", {"tokenizer.model": unigram}, {"tokenizer_class": "T5Tokenizer", "extra_ids": 3}
    yield "unigram", {"tokenizer.model": unigram}, {}
    user = trained(vocab_size=1000, model_type="bpe", byte_fallback=True, user_defined_symbols=["<usr>", "def"], control_symbols=["<ctl>"],
                   character_coverage=0.98)
    yield "user_defined", {"tokenizer.model": user}, {"added_tokens_decoder": {"3": token("<renamed>")}}
    fallback = trained(vocab_size=1000, model_type="unigram", byte_fallback=True, add_dummy_prefix=False, remove_extra_whitespaces=False,
                       character_coverage=0.98, normalization_rule_name="identity")
    yield "unigram_bytes", {"tokenizer.model": fallback}, {"add_bos_token": True, "add_eos_token": True}
    lines = "".join(f"{base64.b64encode(t).decode()} {rank}\n" for rank, t in enumerate(ranks()))
    yield "tiktoken", {"tokenizer.model": lines.encode()}, {"bos_token": "<|bos|>", "added_tokens_decoder": {
        str(len(ranks())): token("<|bos|>"), str(len(ranks()) + 3): token("<|eot|>")}}
    special = [{"rank": i, "token_str": t, "is_control": True} for i, t in enumerate(["<unk>", "<s>", "</s>", "[INST]", "[/INST]"])]
    expression = json.loads((FIXTURES / "llama3/tokenizer.json").read_text())["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
    tekken = {"config": {"pattern": expression, "num_vocab_tokens": len(ranks()), "default_vocab_size": len(ranks()) - 5,
                         "default_num_special_tokens": 10, "version": "v7"},
              "vocab": [{"rank": i, "token_bytes": base64.b64encode(t).decode(), "token_str": None} for i, t in enumerate(ranks())],
              "special_tokens": special}
    yield "tekken", {"tekken.json": json.dumps(tekken).encode()}, {}
    gpt2 = json.loads((FIXTURES / "gpt2/tokenizer.json").read_text())["model"]
    merges = [" ".join(m) if isinstance(m, list) else m for m in gpt2["merges"]][:300]
    vocab = dict(sorted(gpt2["vocab"].items(), key=lambda item: item[1])[:557])
    files = {"vocab.json": json.dumps(vocab).encode(), "merges.txt": ("#version: 0.2\n" + "\n".join(merges) + "\n").encode()}
    yield "gpt2", files, {"tokenizer_class": "GPT2Tokenizer"}
    yield "qwen2", files, {"tokenizer_class": "Qwen2Tokenizer"}
    bert = json.loads((FIXTURES / "bert_uncased/tokenizer.json").read_text())["model"]["vocab"]
    words = "".join(t + "\n" for t in sorted(bert, key=bert.get)).encode()
    yield "bert", {"vocab.txt": words}, {"tokenizer_class": "BertTokenizer"}
    yield "bert_cased", {"vocab.txt": words}, {"tokenizer_class": "BertTokenizer", "do_lower_case": False, "tokenize_chinese_chars": False}


def expected(folder, name):
    if name == "tekken":  # texts are never searched for special tokens there, so those with some are left out
        tekken = Tekkenizer.from_file(folder + "/tekken.json")
        texts = [text for text in TEXTS if not any(t in text for t in ("<s>", "</s>", "<unk>", "INST]"))]
        return [{"text": text, "ids": tekken.encode(text, bos=True, eos=False)} for text in texts]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return [{"text": text, "ids": tokenizer.encode(text)} for text in TEXTS]


def main():
    logging.set_verbosity_error()
    out = []
    for name, files, config in folders():
        with tempfile.TemporaryDirectory() as folder:
            stored = {}
            for file, content in files.items():
                pathlib.Path(folder, file).write_bytes(content)
                same = next((p for p in FIXTURES.glob("*/tokenizer.model") if p.read_bytes() == content), None)
                stored[file] = {"copy_of": f"{same.parent.name}/{same.name}"} if same else {"base64": base64.b64encode(content).decode()}
            pathlib.Path(folder, "tokenizer_config.json").write_text(json.dumps(config))
            out.append({"name": name, "files": stored, "config": config, "cases": expected(folder, name)})
    print("[\n" + ",\n".join(json.dumps(item, ensure_ascii=False) for item in out) + "\n]")


if __name__ == "__main__":
    sys.exit(main())
