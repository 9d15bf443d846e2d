// What datasets, generation and alignment of labels rely on in the tokenizers of a TokenizerFormat:
// ids, tokens and offsets agree, what was encoded comes back, and nothing depends on who asks.
#include <algorithm>
#include <filesystem>
#include <thread>

#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/base/random.h"
#include "espalier/base/served_files.h"
#include "espalier/base/utf8.h"
#include "espalier/conformance/interfaces.h"
#include "espalier/sdk/tokenizer_format.h"

namespace espalier::conformance {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kShown = 60;  // bytes of a text in a remark

using Ids = std::vector<std::int32_t>;

std::string shown(std::string_view text) {
  return dump_json(Value(replace_invalid_utf8(text.substr(0, kShown))));
}

std::string shown(const Ids& ids) {
  std::string text;
  for (std::size_t i = 0; i < std::min<std::size_t>(ids.size(), 12); ++i)
    text += (i > 0 ? ", " : "") + std::to_string(ids[i]);
  return "[" + text + (ids.size() > 12 ? ", ..." : "") + "]";
}

/// Roles of tokens as the host finds them.
Table special_tokens_of(const std::string& folder) {
  Table roles;
  const std::string path = folder + "/tokenizer_config.json";
  if (!fs::exists(path)) return roles;
  const Value config = read_json_file(path);
  for (const auto& [key, value] : config.as_table()) {
    const Value* text = value.is_table() ? value.find("content") : &value;
    if (key.ends_with("_token") && text != nullptr && text->is_string()) roles.set(key, *text);
  }
  return roles;
}

TokenizerFiles files_of(const Subject& subject) {
  const std::vector<std::string> served = served_files(subject.serves, subject.folder);
  return {subject.folder, served.empty() ? std::string() : served.front(),
          special_tokens_of(subject.folder)};
}

std::shared_ptr<const Tokenizer> opened(const Subject& subject) {
  auto tokenizer = subject.create<TokenizerFormat>()->open(files_of(subject));
  ESPALIER_ASSERT(tokenizer != nullptr, "open gave a null pointer instead of a tokenizer");
  return tokenizer;
}

bool is_lossless(const Subject& subject) {
  const Value* lossless = subject.properties.find("lossless");
  return lossless != nullptr && *lossless == Value(true);
}

/// Texts of several scripts, of odd blanks, of nothing, at random, and those of conformance.json.
std::vector<std::string> texts_of(const Subject& subject) {
  std::vector<std::string> texts = {"Hello, world!",
                                    "",
                                    " ",
                                    "  two  blanks  ",
                                    "a\tb\nc\r\n",
                                    "The quick brown fox, 1234567890 times.",
                                    "na\u00efve caf\u00e9 \u2014 \u6771\u4eac\u90fd",
                                    "\U0001F600\U0001F468\u200D\U0001F469 e\u0301 \u0928\u092E",
                                    "x",
                                    std::string(300, 'a')};
  const char32_t alphabet[] = {U'a', U'b',      U'Z',      U' ',         U'.',
                               U'7', U'\u00e9', U'\u4e2d', U'\U0001F600'};
  for (std::uint64_t i = 0; i < 20; ++i) {
    const CounterRandom random(subject.seed, i);
    std::string text;
    for (std::uint64_t n = random.below(0, 40); n > 0; --n)
      append_utf8(text, alphabet[random.below(n, std::size(alphabet))]);
    texts.push_back(std::move(text));
  }
  if (const Value* more = subject.sample.find("texts")) {
    for (const Value& text : more->as_array()) texts.push_back(text.as_string());
  }
  return texts;
}

void check_serves(const Subject& subject, Report& report) {
  const bool files = subject.serves.contains("files");
  if (!files && !subject.serves.contains("tokenizer_classes"))
    return report.fail("the manifest does not say which folders the format is for", {},
                       "serves(\"files\", {...}) or serves(\"tokenizer_classes\", {...})",
                       "without either only recipes that name it find it");
  if (files && files_of(subject).file.empty() && !subject.serves.contains("tokenizer_classes"))
    report.fail("no file of conformance.json is one that the format serves",
                dump_json(*subject.serves.find("files")), "a file whose name and begin fit",
                "give a small one under \"files\" in conformance.json");
}

void check_files(const Subject& subject, Report& report) {
  TokenizerFiles files = files_of(subject);
  if (files.file.empty()) return report.skip("the format needs no file of its own");
  const std::string whole = read_file(files.file);
  const auto opens = [&](const std::string& what) {
    try {
      subject.create<TokenizerFormat>()->open(files);
      return true;
    } catch (const Error& error) {
      if (error.code() == ErrorCode::kInternal)
        report.fail(what + " ends in a broken invariant", error.what(),
                    "Error(kBadInput) that names the file", "check before you use what you read");
      else if (std::string(error.what()).find(files.file) == std::string::npos)
        report.fail("the error for " + what + " does not name the file", error.what(),
                    "a message with " + files.file, "give the path as `where`");
    } catch (const std::exception& error) {
      report.fail(what + " ends in something else than an Error", error.what(),
                  "Error(kBadInput) that names the file");
    }
    return false;
  };
  for (std::size_t part = 0; part < 8; ++part) {
    write_file_atomically(files.file, whole.substr(0, whole.size() * part / 8));
    opens("a file that is cut short");
  }
  std::string noise;
  const CounterRandom random(subject.seed, 1);
  while (noise.size() < 512) noise += static_cast<char>(random.below(noise.size(), 256));
  write_file_atomically(files.file, noise);
  if (opens("a file of random bytes"))
    report.warn("a file of random bytes makes a tokenizer",
                "check what the format promises: magic numbers, lengths, UTF-8");
  fs::remove(files.file);
  if (opens("a file that is not there"))
    report.fail("a file that is not there makes a tokenizer", {}, "an Error that names it");
}

void check_lists(const Subject& subject, Report& report) {
  const auto tokenizer = opened(subject);
  for (const std::string& text : texts_of(subject)) {
    for (const bool special : {false, true}) {
      const Encoding encoding = tokenizer->encode_with_offsets(text, special);
      const std::size_t count = encoding.ids.size();
      if (encoding.tokens.size() != count || encoding.offsets.size() != count ||
          encoding.type_ids.size() != count)
        return report.fail("lists of an encoding differ in length, at " + shown(text),
                           std::to_string(count) + " ids, " +
                               std::to_string(encoding.tokens.size()) + " tokens, " +
                               std::to_string(encoding.offsets.size()) + " offsets, " +
                               std::to_string(encoding.type_ids.size()) + " type_ids",
                           "one of each for every token");
      if (const Ids fast = tokenizer->encode(text, special); fast != encoding.ids)
        return report.fail("encode and encode_with_offsets give other ids, at " + shown(text),
                           shown(fast), shown(encoding.ids));
      for (std::size_t i = 0; i < count; ++i) {
        if (tokenizer->id_to_token(encoding.ids[i]) != encoding.tokens[i] &&
            encoding.ids[i] != tokenizer->unk_id())
          return report.fail("a token is not the one of its id, at " + shown(text),
                             shown(encoding.tokens[i]),
                             shown(tokenizer->id_to_token(encoding.ids[i])),
                             "tokens are entries of the vocabulary");
      }
    }
  }
}

void check_ids(const Subject& subject, Report& report) {
  const auto tokenizer = opened(subject);
  const auto size = static_cast<std::int32_t>(tokenizer->vocab_size());
  for (const std::string& text : texts_of(subject)) {
    for (const std::int32_t id : tokenizer->encode(text, true)) {
      if (id < 0 || id >= size)
        return report.fail("an id lies outside of the vocabulary, at " + shown(text),
                           std::to_string(id), "0 to " + std::to_string(size - 1),
                           "vocab_size is the largest id + 1, added tokens included");
    }
  }
  for (const std::int32_t id :
       {tokenizer->bos_id(), tokenizer->eos_id(), tokenizer->pad_id(), tokenizer->unk_id()}) {
    if (id < -1 || id >= size)
      report.fail("the id of a special token lies outside of the vocabulary", std::to_string(id),
                  "-1, or 0 to " + std::to_string(size - 1));
  }
  for (const std::int32_t id : {std::int32_t{-1}, size, std::int32_t{0x7fffffff}}) {
    if (!tokenizer->id_to_token(id).empty())
      report.fail("id_to_token gives a token for an id that is none", std::to_string(id),
                  "an empty text");
    if (!tokenizer->decode({id}, false).empty())
      report.fail("decode gives a text for an id that is none", std::to_string(id),
                  "an empty text: unknown ids are skipped");
  }
  if (tokenizer->token_to_id("no tokenizer has \x01 this token") != -1)
    report.fail("token_to_id gives an id for a token that is none", {}, "-1");
}

void check_offsets(const Subject& subject, Report& report) {
  const auto tokenizer = opened(subject);
  for (const std::string& text : texts_of(subject)) {
    const auto points = static_cast<std::int64_t>(count_code_points(text));
    const Encoding encoding = tokenizer->encode_with_offsets(text, false);
    std::int64_t before = 0;
    std::int64_t covered = 0;
    for (const auto& [begin, end] : encoding.offsets) {
      const std::string range = "(" + std::to_string(begin) + ", " + std::to_string(end) + ")";
      if (begin < 0 || end < begin || end > points)
        return report.fail("an offset lies outside of the text " + shown(text), range,
                           "within (0, " + std::to_string(points) + ")",
                           "offsets count code points, not bytes");
      if (begin < before)
        return report.fail("offsets go back, at " + shown(text), range,
                           "a begin from " + std::to_string(before) + " on");
      if (is_lossless(subject) && begin > covered)
        return report.fail("offsets leave out characters of " + shown(text), range,
                           "a begin up to " + std::to_string(covered),
                           "a tokenizer that is lossless covers each character");
      before = begin;
      covered = std::max(covered, end);
    }
    if (is_lossless(subject) && covered != points)
      return report.fail("offsets leave out the end of " + shown(text), std::to_string(covered),
                         std::to_string(points));
  }
}

void check_round_trip(const Subject& subject, Report& report) {
  const auto tokenizer = opened(subject);
  for (const std::string& text : texts_of(subject)) {
    const Ids ids = tokenizer->encode(text, false);
    const std::string back = tokenizer->decode(ids, false);
    if (is_lossless(subject) && back != text)
      return report.fail("decode does not give the text back", shown(back), shown(text),
                         "or leave out property(\"lossless\", true)");
    if (std::find(ids.begin(), ids.end(), tokenizer->unk_id()) != ids.end()) continue;
    if (const Ids again = tokenizer->encode(back, false); again != ids)
      return report.fail("a decoded text encodes to other ids, at " + shown(text), shown(again),
                         shown(ids), "see whether decode joins tokens as encode cuts them");
  }
}

void check_special_tokens(const Subject& subject, Report& report) {
  const auto tokenizer = opened(subject);
  for (const std::string& text : texts_of(subject)) {
    const Ids plain = tokenizer->encode(text, false);
    const Encoding with = tokenizer->encode_with_offsets(text, true);
    const auto start = std::search(with.ids.begin(), with.ids.end(), plain.begin(), plain.end());
    if (start == with.ids.end() && !plain.empty())
      return report.fail("special tokens change those of the text, at " + shown(text),
                         shown(with.ids), shown(plain) + " with others around it");
    const auto first = static_cast<std::size_t>(start - with.ids.begin());
    Ids added;
    for (std::size_t i = 0; i < with.ids.size(); ++i) {
      if (i >= first && i < first + plain.size()) continue;
      added.push_back(with.ids[i]);
      if (with.offsets[i] != std::pair<std::int64_t, std::int64_t>{0, 0})
        return report.fail("an added token has a place in the text, at " + shown(text),
                           "(" + std::to_string(with.offsets[i].first) + ", " +
                               std::to_string(with.offsets[i].second) + ")",
                           "(0, 0)");
    }
    if (const std::string left = tokenizer->decode(added, true); !left.empty())
      return report.fail("added tokens are left when special ones are skipped", shown(left),
                         "an empty text", "decode leaves out every special token");
    if (const std::string one = tokenizer->decode(with.ids, true);
        one != tokenizer->decode(plain, true))
      return report.fail("without special tokens a text reads otherwise", shown(one),
                         shown(tokenizer->decode(plain, true)));
  }
}

void check_bytes(const Subject& subject, Report& report) {
  const auto tokenizer = opened(subject);
  for (const std::string& text : {std::string("a\xff"
                                              "b"),
                                  std::string("\xe4\xb8"), std::string("\xc0\x80 \xed\xa0\x80"),
                                  std::string("\xf0\x9f x"), std::string("zero \0 inside", 13)}) {
    const Ids ids = tokenizer->encode(text, false);
    const Ids mended = tokenizer->encode(replace_invalid_utf8(text), false);
    if (ids != mended)
      return report.fail("bytes that are no UTF-8 are not taken as U+FFFD", shown(ids),
                         shown(mended), "begin with replace_invalid_utf8(text)");
  }
}

void check_pairs(const Subject& subject, Report& report) {
  const auto tokenizer = opened(subject);
  const std::vector<std::string> texts = texts_of(subject);
  for (std::size_t i = 0; i + 1 < texts.size(); ++i) {
    const Encoding pair = tokenizer->encode_pair(texts[i], texts[i + 1], false);
    const Ids first = tokenizer->encode(texts[i], false);
    const Ids second = tokenizer->encode(texts[i + 1], false);
    Ids both = first;
    both.insert(both.end(), second.begin(), second.end());
    if (pair.ids != both || pair.type_ids.size() != both.size() ||
        pair.offsets.size() != both.size())
      return report.fail(
          "a pair without special tokens is not one text behind the other, at " + shown(texts[i]),
          shown(pair.ids), shown(both));
  }
}

void check_repeatable(const Subject& subject, Report& report) {
  const auto tokenizer = opened(subject);
  const auto other = opened(subject);
  const std::vector<std::string> texts = texts_of(subject);
  std::vector<Ids> expected;
  expected.reserve(texts.size());
  for (const std::string& text : texts) expected.push_back(tokenizer->encode(text, true));
  for (std::size_t i = texts.size(); i-- > 0;) {
    for (const Tokenizer* each : {tokenizer.get(), other.get()}) {
      if (const Ids again = each->encode(texts[i], true); again != expected[i])
        return report.fail("another call or instance gives other ids, at " + shown(texts[i]),
                           shown(again), shown(expected[i]), "keep nothing of earlier texts");
    }
  }
}

void check_threads(const Subject& subject, Report& report) {
  const auto tokenizer = opened(subject);
  const std::vector<std::string> texts = texts_of(subject);
  std::vector<Ids> expected;
  expected.reserve(texts.size());
  for (const std::string& text : texts) expected.push_back(tokenizer->encode(text, true));
  constexpr std::size_t kThreads = 4;
  constexpr std::size_t kRounds = 20;
  std::vector<std::string> wrong(kThreads);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      try {
        for (std::size_t i = 0; i < kRounds * texts.size(); ++i) {
          const std::size_t which = (i * (t + 1) + t) % texts.size();
          if (tokenizer->encode(texts[which], true) != expected[which]) wrong[t] = texts[which];
        }
      } catch (const std::exception& error) {
        wrong[t] = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& text : wrong) {
    if (!text.empty())
      return report.fail("four threads get other ids than one", shown(text), "equal ids",
                         "encode is const: change no member in it, or guard it");
  }
}

}  // namespace

std::span<const Check> tokenizer_checks() {
  static constexpr Check kChecks[] = {
      {"tokenizer.serves", 2, "the manifest says which folders the format is for", check_serves},
      {"tokenizer.files", 2, "a damaged or missing file is an Error that names it", check_files},
      {"tokenizer.lists", 3, "ids, tokens, offsets and types of an encoding agree", check_lists},
      {"tokenizer.ids", 3, "ids lie in the vocabulary, and others are none", check_ids},
      {"tokenizer.offsets", 3, "offsets are places in the text, in code points", check_offsets},
      {"tokenizer.round_trip", 3, "what was encoded comes back", check_round_trip},
      {"tokenizer.special_tokens", 3, "special tokens stand around the text and can be left out",
       check_special_tokens},
      {"tokenizer.bytes", 3, "bytes that are no UTF-8 count as U+FFFD", check_bytes},
      {"tokenizer.pairs", 3, "a pair is one text behind the other", check_pairs},
      {"tokenizer.repeatable", 3, "every instance and call gives the same ids", check_repeatable},
      {"tokenizer.threads", 3, "several threads get what one gets", check_threads},
  };
  return kChecks;
}

}  // namespace espalier::conformance
