"""Compares Espalier's tokenizer with the `tokenizers` package on tokenizer.json files put together at random: each model
with all kinds of normalizers, pre-tokenizers, post-processors, decoders and added tokens, on random texts.

    python tests/integration/tokenizer_config_fuzz.py --program build/bin/text_driver [--count 150] [--texts 40] [--seed N]

Needs a Python with `tokenizers` alone.
"""
import argparse
import base64
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer

from tokenizer_fuzz import SPACES, WORDS, random_text

EXPRESSIONS = [r"\s+", r"\d+", r"[A-Z][a-z]*", r"\p{L}+|\p{N}", r"(?i:'s|'t)|\w+", r" ?\p{L}+| ?\p{N}{1,3}", r"x*", r"(?=[A-Z])", r"\W",
               r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+", r"a(b|c)?", r"\b", r".", r"\p{Han}+"]
LITERALS = [" ", "a", "the", "  ", "▁", "-", "é", "\n", "''", "中", "."]
BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]


# Replacements of empty matches at the start of a text have no width, which later steps of the package stumble over.
MATCHING_NOTHING = {"x*", "(?=[A-Z])", r"\b"}


def pattern(rng, normalizing=False):
    expressions = [e for e in EXPRESSIONS if not (normalizing and e in MATCHING_NOTHING)]
    return {"String": rng.choice(LITERALS)} if rng.random() < 0.5 else {"Regex": rng.choice(expressions)}


def flag(rng):
    return rng.random() < 0.5


def character_map(rng):
    """A SentencePiece character map for a few characters: one node each below the root, which maps by first bytes."""
    units, texts = [0] * 512, b""
    for key in rng.sample("abcdefgXYZ.,\t\r\x00", 5)[: rng.randrange(1, 6)]:
        byte = ord(key)
        units[byte] = 256 << 10 | 1 << 8 | byte
        units[byte ^ 256] = len(texts)
        texts += rng.choice(["", "x", "yy", " ", "é", "ab c"]).encode() + b"\0"
    return base64.b64encode(struct.pack("<I512I", 2048, *units) + texts).decode()


def normalizer(rng, depth=0):
    kind = rng.choice(["BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled", "Prepend", "Replace", "Sequence",
                       "Strip", "StripAccents", "ByteLevel"])
    if kind == "BertNormalizer":
        return {"type": kind, "clean_text": flag(rng), "handle_chinese_chars": flag(rng), "strip_accents": rng.choice([None, True, False]),
                "lowercase": flag(rng)}
    if kind == "Precompiled":
        return {"type": kind, "precompiled_charsmap": character_map(rng)}
    if kind == "Prepend":
        return {"type": kind, "prepend": rng.choice(["▁", "x", "ab", " "])}
    if kind == "Replace":
        return {"type": kind, "pattern": pattern(rng, True), "content": rng.choice(["", " ", "▁", "xy", "é"])}
    if kind == "Strip":
        return {"type": kind, "strip_left": flag(rng), "strip_right": flag(rng)}
    if kind == "Sequence":
        return {"type": kind, "normalizers": [normalizer(rng, depth + 1) for _ in range(rng.randrange(4 if depth < 2 else 1))]}
    return {"type": kind}


def metaspace(rng):
    scheme = rng.choice(["always", "first", "never"])
    section = {"type": "Metaspace", "replacement": rng.choice("▁▁_"), "prepend_scheme": scheme, "split": flag(rng)}
    if flag(rng):
        section["add_prefix_space"] = scheme != "never"
    return section


def byte_level(rng):
    return {"type": "ByteLevel", "add_prefix_space": flag(rng), "trim_offsets": flag(rng), "use_regex": flag(rng)}


def pre_tokenizer(rng, depth=0):
    kind = rng.choice(["BertPreTokenizer", "ByteLevel", "CharDelimiterSplit", "Digits", "FixedLength", "Metaspace", "Punctuation", "Sequence",
                       "Split", "Split", "UnicodeScripts", "Whitespace", "WhitespaceSplit"])
    if kind == "ByteLevel":
        return byte_level(rng)
    if kind == "CharDelimiterSplit":
        return {"type": kind, "delimiter": rng.choice(" -,é")}
    if kind == "Digits":
        return {"type": kind, "individual_digits": flag(rng)}
    if kind == "FixedLength":
        return {"type": kind, "length": rng.randrange(1, 6)}
    if kind == "Metaspace":
        return metaspace(rng)
    if kind == "Punctuation":
        return {"type": kind, "behavior": rng.choice(BEHAVIORS)}
    if kind == "Split":
        return {"type": kind, "pattern": pattern(rng), "behavior": rng.choice(BEHAVIORS), "invert": flag(rng)}
    if kind == "Sequence":
        return {"type": kind, "pretokenizers": [pre_tokenizer(rng, depth + 1) for _ in range(rng.randrange(4 if depth < 2 else 1))]}
    return {"type": kind}


def decoder(rng, depth=0):
    kind = rng.choice(["BPEDecoder", "ByteLevel", "ByteFallback", "CTC", "Fuse", "Metaspace", "Replace", "Sequence", "Strip", "WordPiece"])
    if kind == "BPEDecoder":
        return {"type": kind, "suffix": rng.choice(["</w>", "a", ""])}
    if kind == "ByteLevel":
        return byte_level(rng)
    if kind == "CTC":
        return {"type": kind, "pad_token": rng.choice(["<pad>", "a"]), "word_delimiter_token": rng.choice(["|", "▁"]), "cleanup": flag(rng)}
    if kind == "Metaspace":
        return metaspace(rng)
    if kind == "Replace":
        return {"type": kind, "pattern": pattern(rng), "content": rng.choice(["", " ", "▁", "xy"])}
    if kind == "Sequence":
        return {"type": kind, "decoders": [decoder(rng, depth + 1) for _ in range(rng.randrange(1, 4 if depth < 2 else 2))]}
    if kind == "Strip":  # what it takes off at the end may not run past the start: the package stops the process
        return {"type": kind, "content": rng.choice(" a▁"), "start": rng.randrange(3), "stop": 0}
    if kind == "WordPiece":
        return {"type": kind, "prefix": rng.choice(["##", "a", ""]), "cleanup": flag(rng)}
    return {"type": kind}


def template_piece(rng, tokens, sequences):
    if rng.random() < 0.5:
        return {"SpecialToken": {"id": rng.choice(tokens), "type_id": rng.randrange(3)}}
    return {"Sequence": {"id": rng.choice(sequences), "type_id": rng.randrange(3)}}


def post_processor(rng, vocab, inside=False):
    kind = rng.choice(["BertProcessing", "RobertaProcessing", "ByteLevel", "TemplateProcessing", "Sequence"])
    tokens = rng.sample(sorted(vocab), 3)
    pair = {"cls": [tokens[0], vocab[tokens[0]]], "sep": [tokens[1], vocab[tokens[1]]]}
    if kind == "BertProcessing":
        return {"type": kind, **pair}
    if kind == "RobertaProcessing":
        return {"type": kind, **pair, "trim_offsets": flag(rng), "add_prefix_space": flag(rng)}
    if kind == "TemplateProcessing" and not inside:
        special = {name: {"id": name, "ids": [vocab[t] for t in tokens[: i + 1]], "tokens": tokens[: i + 1]}
                   for i, name in enumerate(["[X]", "[Y]"])}
        single = [template_piece(rng, list(special), "A") for _ in range(rng.randrange(1, 4))] + [{"Sequence": {"id": "A", "type_id": 0}}]
        both = [template_piece(rng, list(special), "AB") for _ in range(rng.randrange(3))]
        both += [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]
        rng.shuffle(both)
        return {"type": kind, "single": single, "pair": both, "special_tokens": special}
    if kind == "Sequence" and not inside:
        return {"type": kind, "processors": [post_processor(rng, vocab, True) for _ in range(rng.randrange(4))]}
    return byte_level(rng)


def letters_of(texts, rng):
    seen = sorted({c for text in texts for c in text})
    return [c for c in seen if rng.random() < 0.8] or ["a"]


def bpe(rng, texts):
    suffix = rng.choice([None, None, "</w>"])
    prefix = rng.choice([None, None, "##"])
    symbols = letters_of(texts, rng) + ["▁"]
    if flag(rng):
        symbols += [chr(c) for c in list(range(0x21, 0x7F)) + list(range(0xA1, 0xAD)) + list(range(0xAE, 0x144))]
    symbols = [s for s in dict.fromkeys(symbols)]
    vocab = dict.fromkeys(["<unk>"] + symbols)
    vocab.update(dict.fromkeys([(prefix or "") + s for s in symbols] + [s + (suffix or "") for s in symbols]
                               + [(prefix or "") + s + (suffix or "") for s in symbols]))
    fallback = flag(rng)
    if fallback:
        vocab.update(dict.fromkeys(f"<0x{b:02X}>" for b in range(256) if b < 250 or flag(rng)))
    merges, pool = [], [t for t in vocab if not t.startswith("<")]
    for _ in range(150):
        left, right = rng.choice(pool), rng.choice(pool)
        if prefix and not right.startswith(prefix):
            continue
        merged = left + right[len(prefix or ""):]
        if len(merged) > 12 or (left, right) in merges:
            continue
        if merged not in vocab:
            vocab[merged] = None
            pool += [merged] * 3
        merges.append((left, right))
    vocab = {token: i for i, token in enumerate(vocab)}
    return {"type": "BPE", "dropout": rng.choice([None, 0.0]), "unk_token": rng.choice([None, "<unk>"]), "continuing_subword_prefix": prefix,
            "end_of_word_suffix": suffix, "fuse_unk": flag(rng), "byte_fallback": fallback, "ignore_merges": flag(rng), "vocab": vocab,
            "merges": [list(pair) for pair in merges]}, vocab


def some_pieces(rng, texts):
    pieces = letters_of(texts, rng) + ["▁"]
    for _ in range(150):
        text = rng.choice(texts).replace(" ", "▁") or "x"
        begin = rng.randrange(len(text))
        pieces.append(text[begin : begin + rng.randrange(1, 7)])
    return list(dict.fromkeys(pieces))


def unigram(rng, texts):
    pieces = ["<unk>"] + some_pieces(rng, texts)
    fallback = flag(rng)
    if fallback:
        pieces += [f"<0x{b:02X}>" for b in range(256) if b < 250 or flag(rng)]
    # Scores from a few values, so that ties are common.
    vocab = [[piece, rng.choice([-1.0, -2.0, -3.0, -4.0, -2.5, -round(rng.random() * 9, 3)])] for piece in pieces]
    return {"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": fallback}, {p: i for i, p in enumerate(pieces)}


def word_piece(rng, texts):
    prefix = rng.choice(["##", "##", "", "▁"])
    pieces = some_pieces(rng, texts)
    vocab = {p: i for i, p in enumerate(dict.fromkeys(["[UNK]"] + pieces + [prefix + p for p in pieces if flag(rng) or len(p) == 1]))}
    return {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": prefix,
            "max_input_chars_per_word": rng.choice([100, 100, 3, 20]), "vocab": vocab}, vocab


def word_level(rng, texts):
    words = [w for text in texts for w in text.split()] + letters_of(texts, rng)
    vocab = {w: i for i, w in enumerate(dict.fromkeys(["<unk>"] + words))}
    return {"type": "WordLevel", "unk_token": "<unk>", "vocab": vocab}, vocab


def added_tokens(rng, vocab):
    contents = ["<s>", "</s>", "<|im_start|>", "[MASK]", "hello", "Hello", "é", "a b", "x", "the", "   ", "中", "camel"]
    tokens, size = [], len(vocab)
    for content in rng.sample(contents, rng.randrange(6)):
        token_id = vocab.get(content, size)
        size += token_id == size
        tokens.append({"id": token_id, "content": content, "single_word": flag(rng), "lstrip": flag(rng), "rstrip": flag(rng),
                       "normalized": flag(rng), "special": flag(rng)})
    return tokens


def random_config(rng, texts):
    model, vocab = rng.choice([bpe, unigram, word_piece, word_level])(rng, texts)
    section = lambda make, *more: make(rng, *more) if rng.random() < 0.75 else None
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added_tokens(rng, vocab), "normalizer": section(normalizer),
            "pre_tokenizer": section(pre_tokenizer), "post_processor": section(post_processor, vocab), "decoder": section(decoder),
            "model": model}


def run(program, mode, folder, special, records):
    lines = "".join(json.dumps(record) + "\n" for record in records)
    out = subprocess.run([program, mode, folder, "1" if special else "0"], input=lines.encode(), capture_output=True)
    if out.returncode != 0:
        raise RuntimeError(out.stderr.decode())
    return [json.loads(line) for line in out.stdout.decode().split("\n") if line]


def expected(reference, record, special):
    try:
        theirs = reference.encode(record["text"], record.get("pair"), add_special_tokens=special)
    except BaseException as error:  # panics of the package are no Exceptions
        return None, str(error)
    wanted = {"ids": theirs.ids, "tokens": theirs.tokens, "offsets": [list(pair) for pair in theirs.offsets]}
    if "pair" in record:
        wanted["type_ids"] = theirs.type_ids
    return wanted, None


def decoded(reference, ids, skip):
    try:
        return reference.decode(ids, skip_special_tokens=skip)
    except BaseException:
        return None


def compare(program, folder, config, records, special):
    """Text about the first difference; nothing when there is none."""
    reference = Tokenizer.from_str(json.dumps(config))
    if reference.normalizer is not None:
        # Of tokens that look alike when normalized the package takes one by chance, and one of which nothing is left it
        # finds between all characters.
        seen = [reference.normalizer.normalize_str(token["content"]) for token in config["added_tokens"] if token["normalized"]]
        if len(seen) > len(set(seen)) or "" in seen:
            return None
    wanted = [expected(reference, record, special) for record in records]
    kept = [(record, want) for record, (want, error) in zip(records, wanted, strict=True) if error is None]
    if not kept:
        return None
    for (record, want), got in zip(kept, run(program, "tokenize", folder, special, [record for record, _ in kept]), strict=True):
        if got != want:
            return f"{record}\n  ours   {got}\n  theirs {want}"
    for skip in (False, True):
        pairs = [(want["ids"], decoded(reference, want["ids"], skip)) for _, want in kept]
        pairs = [(ids, text) for ids, text in pairs if text is not None]
        for (ids, text), got in zip(pairs, run(program, "detokenize", folder, skip, [{"ids": ids} for ids, _ in pairs]), strict=True):
            if got["text"] != text:
                return f"decode {ids} {skip}\n  ours   {got['text']!r}\n  theirs {text!r}"
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--texts", type=int, default=40)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--show", type=int, default=5)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    different = 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.count):
            rng = random.Random(f"{arguments.seed} {number}")
            added = ["<s>", "</s>", "<|im_start|>", "[MASK]", "hello", "camel"]
            texts = ["".join(rng.choice(WORDS + SPACES) for _ in range(6)) if rng.random() < 0.3 else random_text(rng, added)
                     for _ in range(arguments.texts)]
            config = random_config(rng, texts)
            pathlib.Path(folder, "tokenizer.json").write_text(json.dumps(config), encoding="utf-8")
            records = [{"text": text} if flag(rng) else {"text": text, "pair": rng.choice(texts)} for text in texts]
            try:
                difference = compare(arguments.program, folder, config, records, flag(rng))
            except RuntimeError as error:
                difference = str(error)
            if difference:
                different += 1
                if different <= arguments.show:
                    shown = {key: value for key, value in config.items() if key != "model"}
                    shown["model"] = {key: value for key, value in config["model"].items() if key not in ("vocab", "merges")}
                    print(f"configuration {number}: {difference}\n  of {json.dumps(shown, ensure_ascii=False)}", flush=True)
    print(f"{arguments.count} configurations, {different} different")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
