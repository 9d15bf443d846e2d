"""Compares Espalier's tokenizer with the `tokenizers` package on random Unicode strings: ids, tokens, offsets, decoding.

    python tests/integration/tokenizer_fuzz.py --folder DIR [--folder DIR ...] --program 'build/bin/espalier' \
        [--count 20000] [--seed N]

Needs a Python with `tokenizers` alone. With --driver, the program is tests/integration/text_driver.
"""
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

SPACES = [" ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", "\r", "\x0b", "\x0c", "\x85", "\u00a0", "\u2003", "\u2028", "\u3000",
          "\u1680", "\u200b", "\ufeff", " \n", "\n "]
WORDS = ["hello", "world", "Hello", "WORLD", "camelCase", "naïve", "Straße", "don", "they", "I", "we", "x", "ABC", "aB",
         "привет", "Привет", "مرحبا", "שלום", "नमस्ते", "안녕하세요", "こんにちは", "カタカナ", "你好世界", "中", "龥",
         "ไทย", "Ωμέγα", "ǅ", "ʰ", "ª", "ﬁ", "ſ", "İ", "ı"]
CONTRACTIONS = ["'s", "'S", "'t", "'T", "'re", "'Re", "'rE", "'VE", "'ll", "'LL", "'lL", "'d", "'m", "'ſ", "’s", "'", "''", "'x"]
NUMBERS = ["0", "1", "12", "123", "1234", "12345678", "٣", "१२३", "½", "²", "Ⅷ", "①", "𝟘", "3.14", "1,000"]
MARKS = ["\u0301", "\u0300", "\u0327", "\u0323", "\u0345", "\u093c", "\u20dd", "\u05b0", "\u3099", "\u1100", "\u1161", "\u11a8",
         "e\u0301", "a\u0323\u0302", "\u0958", "\u212b", "\u1e9b\u0323", "\u0f73", "\U0001d15f"]
SYMBOLS = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + ["...", "---", "==", "//", "€", "™", "→", "∑", "«", "»", "、", "。", "¿", "§", "¬"]
EMOJI = ["😀", "👩‍👩‍👧", "🏳️‍🌈", "🇩🇪", "👍🏽", "☃", "❤️"]
CONTROLS = ["\x00", "\x01", "\x1b", "\x7f", "\x80", "\u200d", "\u202e", "\ufffd", "\uffff", "\U0010ffff", "\ue000", "\U000e0001"]
NEW = ["\u1c89", "\ua7cb", "\U00010d40", "\U000105c0", "\U00011938", "\U00011935\U00011930", "\u0897", "\U0001e5ff", "\U00016d40",
       "\U00011de0", "\U00010d69"]


def random_char(rng):
    while True:
        ceiling = rng.choice([0x80, 0x250, 0x800, 0x3000, 0x10000, 0x20000, 0x110000])
        point = rng.randrange(ceiling)
        if not 0xD800 <= point <= 0xDFFF:
            return chr(point)


def random_text(rng, added):
    parts = []
    pools = [SPACES, WORDS, CONTRACTIONS, NUMBERS, MARKS, SYMBOLS, EMOJI, CONTROLS, NEW]
    weights = [5, 5, 3, 3, 3, 4, 1, 1, 1]
    for _ in range(rng.randrange(1, 25)):
        kind = rng.random()
        if kind < 0.08:
            parts.append(random_char(rng) * rng.choice([1, 1, 1, 2, 5]))
        elif kind < 0.14 and added:
            token = rng.choice(added)
            how = rng.random()
            if how < 0.25:
                token = token[: rng.randrange(len(token) + 1)]
            elif how < 0.35:
                token = token.upper()
            elif how < 0.5:
                token = rng.choice(SPACES) + token + rng.choice(SPACES)
            parts.append(token)
        else:
            piece = rng.choice(rng.choices(pools, weights)[0])
            parts.append(piece * rng.choice([1, 1, 1, 1, 2, 3, rng.randrange(1, 60)]) if rng.random() < 0.2 else piece)
    return "".join(parts)


def word_level(folder):
    """A tokenizer of whole words; none is among the fixtures."""
    words = dict.fromkeys(["[UNK]", "<s>", "</s>", *(word.lower() for word in WORDS), *SYMBOLS, *NUMBERS])
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 1))
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.save(folder + "/tokenizer.json")
    return folder


def run_program(arguments, folder, records, decode, flag):
    """The answers of `espalier tokenize`; the flag adds special tokens, or skips them when decoding."""
    command = [arguments.program, "tokenize", "--model", folder, "--input", "-", "--json"]
    if arguments.driver:
        command = [arguments.program, "detokenize" if decode else "tokenize", folder, "1" if flag else "0"]
    elif decode:
        command += ["--decode"] + (["--skip-special-tokens"] if flag else [])
    elif not flag:
        command += ["--no-special-tokens"]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    out = subprocess.run(command, input=lines.encode(), capture_output=True)
    if out.returncode != 0:
        sys.exit(f"{command} failed:\n{out.stderr.decode()}")
    return [json.loads(line) for line in out.stdout.decode().split("\n") if line]


def differences(arguments, folder, reference, records, special):
    """Pairs of what Espalier says and what the package says."""
    pairs = []
    for record, ours in zip(records, run_program(arguments, folder, records, False, special), strict=True):
        theirs = reference.encode(record["text"], record.get("pair"), add_special_tokens=special)
        wanted = {"ids": theirs.ids, "tokens": theirs.tokens, "offsets": [list(pair) for pair in theirs.offsets]}
        if "pair" in record:
            wanted["type_ids"] = theirs.type_ids
        pairs.append((record, ours, wanted))
    encoded = [{"ids": wanted["ids"]} for _, _, wanted in pairs[:: 4]]
    for record, ours in zip(encoded, run_program(arguments, folder, encoded, True, special), strict=True):
        pairs.append((record, ours, {"text": reference.decode(record["ids"], skip_special_tokens=special)}))
    return [pair for pair in pairs if pair[1] != pair[2]]


def compare(arguments, folder, count, rng):
    reference = Tokenizer.from_file(folder + "/tokenizer.json")
    added = sorted(token.content for token in reference.get_added_tokens_decoder().values())
    different = 0
    chunk = 20000
    for begin in range(0, count, chunk):
        records = [{"text": random_text(rng, added)} for _ in range(min(chunk, count - begin))]
        for record in records[:: 8]:
            record["pair"] = random_text(rng, added)
        for special, part in ((False, records[: len(records) // 2]), (True, records[len(records) // 2 :])):
            for record, ours, theirs in differences(arguments, folder, reference, part, special):
                different += 1
                if different <= arguments.show:
                    print(f"{folder}: {record!r}\n  ours   {ours}\n  theirs {theirs}")
    print(f"{folder}: {count} strings, {different} different", flush=True)
    return different


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", action="append", default=[])
    parser.add_argument("--word-level", action="store_true", help="a tokenizer of whole words, made here")
    parser.add_argument("--program", required=True)
    parser.add_argument("--driver", action="store_true")
    parser.add_argument("--count", type=int, default=20000, help="strings for all folders together")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--show", type=int, default=3)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    with tempfile.TemporaryDirectory() as own:
        folders = arguments.folder + ([word_level(own)] if arguments.word_level else [])
        count = -(-arguments.count // len(folders))
        different = 0
        for folder in folders:
            different += compare(arguments, folder, count, random.Random(f"{arguments.seed} {os.path.basename(folder)}"))
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
