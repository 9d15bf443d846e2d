// TokenizerFormats that break one promise each. `violates` names the check that has to find it.
#include <chrono>
#include <filesystem>
#include <thread>

#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/utf8.h"
#include "espalier/sdk/plugin.h"
#include "espalier/sdk/tokenizer_format.h"

namespace espalier {
namespace {

constexpr std::int32_t kBegin = 256;

/// Bytes as tokens, with one special token before each text.
class Sound : public Tokenizer {
 public:
  std::vector<std::int32_t> encode(std::string_view text, bool special) const override {
    return encode_with_offsets(text, special).ids;
  }
  Encoding encode_with_offsets(std::string_view raw, bool special) const override {
    Encoding encoding;
    if (special) {
      encoding.ids.push_back(kBegin);
      encoding.offsets.emplace_back(0, 0);
    }
    std::int64_t point = -1;
    for (const char c : valid(raw)) {
      if (!is_utf8_continuation(c)) ++point;
      encoding.ids.push_back(static_cast<unsigned char>(c));
      encoding.offsets.emplace_back(point, point + 1);
    }
    for (const std::int32_t id : encoding.ids) encoding.tokens.push_back(id_to_token(id));
    encoding.type_ids.assign(encoding.ids.size(), 0);
    return encoding;
  }
  std::string decode(const std::vector<std::int32_t>& ids, bool skip) const override {
    std::string text;
    for (const std::int32_t id : ids) {
      if (id == kBegin && !skip) text += "<begin>";
      if (id >= 0 && id < kBegin) text += static_cast<char>(id);
    }
    return text;
  }
  std::int32_t token_to_id(std::string_view token) const override {
    return token == "<begin>" ? kBegin : -1;
  }
  std::string id_to_token(std::int32_t id) const override {
    std::string token;
    if (id >= 0 && id < kBegin) append_utf8(token, static_cast<char32_t>(id));
    return id == kBegin ? "<begin>" : token;
  }
  std::int64_t vocab_size() const override { return kBegin + 1; }
  std::int32_t bos_id() const override { return kBegin; }
  std::int32_t eos_id() const override { return -1; }
  std::int32_t pad_id() const override { return -1; }
  std::int32_t unk_id() const override { return -1; }

 protected:
  virtual std::string valid(std::string_view raw) const { return replace_invalid_utf8(raw); }
};

struct ForgetsAnOffset final : Sound {
  Encoding encode_with_offsets(std::string_view text, bool special) const override {
    Encoding encoding = Sound::encode_with_offsets(text, special);
    if (!encoding.offsets.empty()) encoding.offsets.pop_back();
    return encoding;
  }
};

struct CountsOnlyBytes final : Sound {
  std::int64_t vocab_size() const override { return kBegin; }
};

struct OffsetsInBytes final : Sound {
  Encoding encode_with_offsets(std::string_view text, bool special) const override {
    Encoding encoding = Sound::encode_with_offsets(text, special);
    for (std::size_t i = special ? 1 : 0; i < encoding.offsets.size(); ++i) {
      const auto at = static_cast<std::int64_t>(i) - (special ? 1 : 0);
      encoding.offsets[i] = {at, at + 1};
    }
    return encoding;
  }
};

struct LosesBlanks final : Sound {
  std::string decode(const std::vector<std::int32_t>& ids, bool skip) const override {
    std::string text = Sound::decode(ids, skip);
    while (text.ends_with(' ')) text.pop_back();
    return text;
  }
};

struct KeepsSpecialTokens final : Sound {
  std::string decode(const std::vector<std::int32_t>& ids, bool) const override {
    return Sound::decode(ids, false);
  }
};

struct TakesRawBytes final : Sound {
  std::string valid(std::string_view raw) const override { return std::string(raw); }
};

struct SecondTextFirst final : Sound {
  Encoding encode_pair(std::string_view first, std::string_view second,
                       bool special) const override {
    return Sound::encode_pair(second, first, special);
  }
};

struct Remembers final : Sound {
  Encoding encode_with_offsets(std::string_view text, bool special) const override {
    Encoding encoding = Sound::encode_with_offsets(text, special);
    if (seen_ && !encoding.ids.empty()) encoding.ids.back() = 'x';
    seen_ = seen_ || text.size() > 200;
    return encoding;
  }
  mutable std::atomic<bool> seen_ = false;
};

struct OneBufferForAll final : Sound {
  Encoding encode_with_offsets(std::string_view text, bool special) const override {
    const std::size_t own = ++turn_;
    std::this_thread::sleep_for(std::chrono::microseconds(50));
    Encoding encoding = Sound::encode_with_offsets(text, special);
    if (turn_ != own) encoding.ids.clear();
    return encoding;
  }
  mutable std::atomic<std::size_t> turn_ = 0;
};

/// Reads a file that begins with a word and has nothing else.
template <class T>
struct Format : TokenizerFormat {
  std::shared_ptr<const Tokenizer> open(const TokenizerFiles& files) const override {
    if (read_file(files.file) != "TOYS\n")
      throw_bad_input("the file is no vocabulary of toys", {}, "TOYS", files.file);
    return std::make_shared<T>();
  }
};

struct AnyFileWillDo final : TokenizerFormat {
  std::shared_ptr<const Tokenizer> open(const TokenizerFiles&) const override {
    return std::make_shared<Sound>();
  }
};

template <class T>
ComponentBuilder add(Registrar& registrar, const char* name, const char* check) {
  return registrar.add<TokenizerFormat, T>(name, "Breaks a promise.")
      .property("violates", check)
      .property("lossless", true);
}

void register_components(Registrar& registrar) {
  add<Format<Sound>>(registrar, "says_not_for_what", "tokenizer.serves");
  const auto served = [&]<class T>(T*, const char* name, const char* check) {
    add<T>(registrar, name, check).serves("files", {"*.toy"});
  };
  served(static_cast<AnyFileWillDo*>(nullptr), "any_file_will_do", "tokenizer.files");
  const auto wrong = [&]<class T>(T*, const char* name, const char* check) {
    served(static_cast<Format<T>*>(nullptr), name, check);
  };
  wrong(static_cast<ForgetsAnOffset*>(nullptr), "forgets_an_offset", "tokenizer.lists");
  wrong(static_cast<CountsOnlyBytes*>(nullptr), "counts_only_bytes", "tokenizer.ids");
  wrong(static_cast<OffsetsInBytes*>(nullptr), "offsets_in_bytes", "tokenizer.offsets");
  wrong(static_cast<LosesBlanks*>(nullptr), "loses_blanks", "tokenizer.round_trip");
  wrong(static_cast<KeepsSpecialTokens*>(nullptr), "keeps_special_tokens",
        "tokenizer.special_tokens");
  wrong(static_cast<TakesRawBytes*>(nullptr), "takes_raw_bytes", "tokenizer.bytes");
  wrong(static_cast<SecondTextFirst*>(nullptr), "second_text_first", "tokenizer.pairs");
  wrong(static_cast<Remembers*>(nullptr), "remembers", "tokenizer.repeatable");
  wrong(static_cast<OneBufferForAll*>(nullptr), "one_buffer_for_all", "tokenizer.threads");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("wrong.tokenizers", "1.0.0", espalier::register_components)
