"""Compares Espalier's tokenizer with the `tokenizers` package on random Unicode strings: ids, tokens and offsets.

    python tests/integration/tokenizer_fuzz.py --folder DIR [--folder DIR ...] --program 'build/bin/espalier' \
        [--count 20000] [--seed N]

Needs a Python with `tokenizers` alone. With --driver, the program is tests/integration/text_driver.
"""
import argparse
import json
import random
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer

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


def run_program(arguments, folder, texts, special):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as lines:
        for text in texts:
            lines.write(json.dumps({"text": text}) + "\n")
        lines.flush()
        if arguments.driver:
            command = [arguments.program, "tokenize", folder, "1" if special else "0"]
            with open(lines.name, "rb") as stdin:
                out = subprocess.run(command, stdin=stdin, capture_output=True)
        else:
            command = [arguments.program, "tokenize", "--model", folder, "--input", lines.name, "--json"]
            out = subprocess.run(command + ([] if special else ["--no-special-tokens"]), capture_output=True)
    if out.returncode != 0:
        sys.exit(f"{command} failed:\n{out.stderr.decode()}")
    return [json.loads(line) for line in out.stdout.decode().split("\n") if line]


def compare(arguments, folder, rng):
    reference = Tokenizer.from_file(folder + "/tokenizer.json")
    added = sorted(token.content for token in reference.get_added_tokens_decoder().values())
    texts = [random_text(rng, added) for _ in range(arguments.count)]
    different = 0
    for special, part in ((False, texts[: len(texts) // 2]), (True, texts[len(texts) // 2 :])):
        for text, ours in zip(part, run_program(arguments, folder, part, special), strict=True):
            theirs = reference.encode(text, add_special_tokens=special)
            wanted = {"ids": theirs.ids, "tokens": theirs.tokens, "offsets": [list(pair) for pair in theirs.offsets]}
            if ours != wanted:
                different += 1
                if different <= arguments.show:
                    print(f"{folder}: {text!r}\n  ours   {ours}\n  theirs {wanted}")
    print(f"{folder}: {len(texts)} strings, {different} different")
    return different


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", action="append", required=True)
    parser.add_argument("--program", required=True)
    parser.add_argument("--driver", action="store_true")
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--show", type=int, default=3)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    different = sum(compare(arguments, folder, random.Random(f"{arguments.seed} {folder}")) for folder in arguments.folder)
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
