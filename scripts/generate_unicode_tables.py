"""Writes core/text/unicode/tables.inc: the character properties that the `tokenizers` package really uses.

The package mixes several Unicode versions (Oniguruma, Rust's standard library, regex, unicode_categories,
unicode-normalization), none of which is that of the system's Oniguruma or utf8proc. So each property is read off the
package itself, for every code point.

    python -m venv venv && venv/bin/pip install tokenizers==0.23.3
    venv/bin/python scripts/generate_unicode_tables.py > core/text/unicode/tables.inc
"""
import struct
import unicodedata

from tokenizers import Regex, __version__, normalizers, pre_tokenizers

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
ALL = "".join(map(chr, CODE_POINTS))
CATEGORIES = ("Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co").split()


def removed_by(pre_tokenizer):
    """Code points that the pre-tokenizer drops from a string of all code points."""
    hit = bytearray(b"\1") * len(ALL)
    for _, (begin, end) in pre_tokenizer.pre_tokenize_str(ALL):
        hit[begin:end] = bytes(end - begin)
    return {CODE_POINTS[i] for i in range(len(ALL)) if hit[i]}


def matched_by(pattern):
    return removed_by(pre_tokenizers.Split(Regex(pattern), "removed"))


def ranges(points):
    out = []
    for point in sorted(points):
        if out and out[-1][1] + 1 == point:
            out[-1][1] = point
        else:
            out.append([point, point])
    return out


def write(name, type_name, rows, per_line):
    print(f"inline constexpr {type_name} {name}[] = {{")
    for start in range(0, len(rows), per_line):
        print("    " + " ".join("{" + ", ".join(row) + "}," for row in rows[start : start + per_line]))
    print("};\n")


def write_set(name, points):
    write(name, "CodePointRange", [[f"{a:#x}", f"{b:#x}"] for a, b in ranges(points)], 6)


def write_categories():
    rows = []
    for category in CATEGORIES:
        for a, b in ranges(matched_by(r"\p{%s}+" % category)):
            rows.append((a, b, category))
    rows.sort()
    write("kCategoryRanges", "CategoryRange", [[f"{a:#x}", f"{b:#x}", f"k{c}"] for a, b, c in rows], 5)


def numeric():
    digits = pre_tokenizers.Digits(individual_digits=True)
    hits, pieces = set(), digits.pre_tokenize_str(ALL)
    category_n = matched_by(r"\p{N}+")
    for _, (begin, end) in pieces:
        if end - begin == 1:
            point = CODE_POINTS[begin]
            # A lone code point between two numeric ones is a piece of length one as well.
            if len(digits.pre_tokenize_str(chr(point) + "a" + chr(point))) == 3:
                if len(digits.pre_tokenize_str("a" + chr(point))) == 2:
                    hits.add(point)
    return hits ^ category_n


def word_characters():
    whitespace = pre_tokenizers.Whitespace()
    points = set()
    for point in CODE_POINTS:
        pieces = whitespace.pre_tokenize_str("a" + chr(point))
        if len(pieces) == 1 and len(pieces[0][0]) == 2:
            points.add(point)
    return points


def ascii_punctuation():
    return {ord(c) for c in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"}


def inert_for_normalization(marks):
    """Code points that a newer Unicode decomposes or reorders and the package leaves alone."""
    nfkd = normalizers.NFKD().normalize_str
    points = set()
    for point in CODE_POINTS:
        text = chr(point)
        known = unicodedata.combining(text) or unicodedata.decomposition(text)
        if not (known or point in marks or unicodedata.category(text) == "Cn") or 0xAC00 <= point <= 0xD7A3:
            continue
        reordered = nfkd("a\u0345" + text) != "a\u0345" + text or nfkd("a" + text + "\u0334") != "a" + text + "\u0334"
        if nfkd(text) == text and not reordered:
            points.add(point)
    return points


def compositions():
    nfc = normalizers.NFC().normalize_str
    rows = []
    for point in CODE_POINTS:
        parts = unicodedata.decomposition(chr(point)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            first, second = (int(part, 16) for part in parts)
            if nfc(chr(first) + chr(second)) == chr(point):
                rows.append((first, second, point))
    return sorted(rows)


def lowercase_differences():
    lower = normalizers.Lowercase().normalize_str
    rows = []
    for point in CODE_POINTS:
        text = lower(chr(point))
        if text != chr(point):
            rows.append([f"{point:#x}"] + [f"{ord(text[i]):#x}" if i < len(text) else "0" for i in range(3)])
    return rows


def removed_by_bert(**options):
    """Code points that BertNormalizer drops when it does nothing but `options`."""
    off = {"clean_text": False, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False}
    normalize = normalizers.BertNormalizer(**(off | options)).normalize_str
    return {point for point in CODE_POINTS if normalize(chr(point)) == ""}


def joining():
    """Code points that share a grapheme cluster with what stands before them."""
    # A character map (darts-clone) with the one key "a": it takes the place of the whole cluster.
    units = [0] * 256
    units[ord("a")] = 1 << 10 | 1 << 8 | ord("a")
    blob = struct.pack("<I256I", 1024, *units) + b"x\0"
    normalize = normalizers.Precompiled(blob).normalize_str
    return {point for point in CODE_POINTS if normalize("a" + chr(point)) == "x"}


def scripts():
    """Ranges of code points that UnicodeScripts takes for one script; those that go with every script are left out."""
    split = pre_tokenizers.UnicodeScripts().pre_tokenize_str
    texts = ["a" + c + "\u3042" for c in ALL]
    own = [c for c, text in zip(ALL, texts) if not len(split(text)) == 2 or len(split(text[:2])) > 1 or len(split(text[1:])) > 1]
    rest = "".join(own)
    samples, rows = [], []
    for _, (begin, end) in split(rest):
        number = next((i for i, other in enumerate(samples) if len(split(other + rest[begin])) == 1), len(samples))
        if number == len(samples):
            samples.append(rest[begin])
        rows += [[f"{a:#x}", f"{b:#x}", str(number + 1)] for a, b in ranges(map(ord, rest[begin:end]))]
    return rows


def main():
    category_m = matched_by(r"\p{M}+")
    print(f"// Written by scripts/generate_unicode_tables.py from tokenizers {__version__}; do not edit.\n")
    write_categories()
    write_set("kNumericDiffersFromN", numeric())
    word = word_characters()
    write_set("kWordCharacters", word)
    write_set("kOnigWordDiffers", word ^ matched_by(r"\w+"))
    punctuation = removed_by(pre_tokenizers.Punctuation("removed"))
    write_set("kPunctuationDiffersFromP", punctuation ^ (matched_by(r"\p{P}+") | ascii_punctuation()))
    accents = {p for p in CODE_POINTS if normalizers.StripAccents().normalize_str(chr(p)) == ""}
    write_set("kCombiningMarkDiffersFromM", accents ^ category_m)
    write_set("kBertControls", removed_by_bert(clean_text=True))
    write_set("kBertAccents", removed_by_bert(strip_accents=True))
    write_set("kJoining", joining())
    write("kScripts", "ScriptRange", scripts(), 6)
    write_set("kInertForNormalization", inert_for_normalization(category_m))
    pairs = compositions()
    write("kCompositions", "Composition", [[f"{a:#x}", f"{b:#x}", f"{c:#x}"] for a, b, c in pairs], 4)
    write("kLowercase", "LowercaseMapping", lowercase_differences(), 4)


if __name__ == "__main__":
    main()
