#include <algorithm>
#include <array>

#include "espalier/base/utf8.h"
#include "text/byte_alphabet.h"
#include "text/decoder/decoder.h"
#include "text/metaspace_section.h"
#include "text/pattern/pattern_section.h"

namespace espalier::text {
namespace {

using Tokens = std::vector<std::string>;

class ByteLevelDecoder final : public Decoder {
 public:
  Tokens decode(Tokens tokens) const override {
    std::string bytes;
    for (const std::string& token : tokens) {
      const auto raw = from_byte_level(token);
      bytes += raw ? *raw : token;
    }
    return {replace_invalid_utf8(bytes)};
  }
};

class ReplaceDecoder final : public Decoder {
 public:
  explicit ReplaceDecoder(const JsonNode& section)
      : pattern_(read_pattern(section)), content_(section.at("content").as_string()) {}

  Tokens decode(Tokens tokens) const override {
    std::vector<Span> spans;
    for (std::string& token : tokens) {
      spans.clear();
      pattern_->find(token, spans);
      std::string replaced;
      for (const Span& span : spans)
        replaced += span.matched ? content_ : token.substr(span.begin, span.end - span.begin);
      token = std::move(replaced);
    }
    return tokens;
  }

 private:
  std::unique_ptr<Pattern> pattern_;
  std::string content_;
};

/// Runs of tokens "<0xNN>" become the text that their bytes spell, or one U+FFFD each.
class ByteFallback final : public Decoder {
 public:
  Tokens decode(Tokens tokens) const override {
    Tokens out;
    std::string bytes;
    const auto flush = [&] {
      if (is_valid_utf8(bytes)) {
        if (!bytes.empty()) out.push_back(bytes);
      } else {
        out.insert(out.end(), bytes.size(), to_utf8(std::u32string(1, kReplacementCharacter)));
      }
      bytes.clear();
    };
    for (std::string& token : tokens) {
      const int byte = byte_of(token);
      if (byte >= 0) {
        bytes.push_back(static_cast<char>(byte));
        continue;
      }
      flush();
      out.push_back(std::move(token));
    }
    flush();
    return out;
  }

 private:
  static int digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  }
  /// -1 for other tokens. "+5" is a number to Rust's parser.
  static int byte_of(const std::string& token) {
    if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
    const int low = digit(token[4]);
    const int high = token[3] == '+' ? 0 : digit(token[3]);
    return low < 0 || high < 0 ? -1 : high * 16 + low;
  }
};

class Fuse final : public Decoder {
 public:
  Tokens decode(Tokens tokens) const override {
    std::string text;
    for (const std::string& token : tokens) text += token;
    return {text};
  }
};

class StripDecoder final : public Decoder {
 public:
  explicit StripDecoder(const JsonNode& section)
      : content_(section.at("content").as_string()),
        start_(section.at("start").as_int(0, INT32_MAX)),
        stop_(section.at("stop").as_int(0, INT32_MAX)) {
    if (count_code_points(content_) != 1)
      section.at("content").fail("what Strip takes off is not one character", content_,
                                 "one character");
  }

  Tokens decode(Tokens tokens) const override {
    for (std::string& token : tokens) {
      for (std::int64_t i = 0; i < start_ && starts(token); ++i) token.erase(0, content_.size());
      for (std::int64_t i = 0; i < stop_ && !token.empty() && token.ends_with(content_); ++i)
        token.resize(token.size() - content_.size());
    }
    return tokens;
  }

 private:
  bool starts(const std::string& token) const {
    return !content_.empty() && token.starts_with(content_);
  }

  std::string content_;
  std::int64_t start_;
  std::int64_t stop_;
};

class MetaspaceDecoder final : public Decoder {
 public:
  explicit MetaspaceDecoder(const JsonNode& section)
      : settings_(MetaspaceSection::read(section)),
        mark_(make_literal_pattern(settings_.replacement)) {}

  Tokens decode(Tokens tokens) const override {
    std::vector<Span> spans;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      // The first token carries the mark that the pre-tokenizer added.
      const char* space = i == 0 && settings_.prepend_scheme != PrependScheme::kNever ? "" : " ";
      spans.clear();
      mark_->find(tokens[i], spans);
      std::string replaced;
      for (const Span& span : spans)
        replaced += span.matched ? space : tokens[i].substr(span.begin, span.end - span.begin);
      tokens[i] = std::move(replaced);
    }
    return tokens;
  }

 private:
  MetaspaceSection settings_;
  std::unique_ptr<Pattern> mark_;
};

/// As Rust's str::replace: an empty `from` stands before every character and at the end.
std::string replaced_all(std::string text, std::string_view from, std::string_view to) {
  if (from.empty()) {
    std::string out(to);
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t length = utf8_length(text[at]);
      out.append(text, at, length).append(to);
      at += length;
    }
    return out;
  }
  std::size_t at = text.find(from);
  if (at == std::string::npos) return text;
  std::string out;
  std::size_t begin = 0;
  for (; at != std::string::npos; at = text.find(from, begin)) {
    out.append(text, begin, at - begin).append(to);
    begin = at + from.size();
  }
  return out.append(text, begin);
}

/// Takes out the spaces that English does not write.
std::string cleaned_up(std::string text) {
  constexpr std::array<std::array<const char*, 2>, 11> kCleanup = {{{" .", "."},
                                                                    {" ?", "?"},
                                                                    {" !", "!"},
                                                                    {" ,", ","},
                                                                    {" ' ", "'"},
                                                                    {" n't", "n't"},
                                                                    {" 'm", "'m"},
                                                                    {" do not", " don't"},
                                                                    {" 's", "'s"},
                                                                    {" 've", "'ve"},
                                                                    {" 're", "'re"}}};
  for (const auto& [from, to] : kCleanup) text = replaced_all(std::move(text), from, to);
  return text;
}

class WordPieceDecoder final : public Decoder {
 public:
  explicit WordPieceDecoder(const JsonNode& section)
      : prefix_(section.at("prefix").as_string()), cleanup_(section.at("cleanup").as_bool()) {}

  Tokens decode(Tokens tokens) const override {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (i != 0)
        tokens[i] =
            tokens[i].starts_with(prefix_) ? tokens[i].substr(prefix_.size()) : " " + tokens[i];
      if (cleanup_) tokens[i] = cleaned_up(std::move(tokens[i]));
    }
    return tokens;
  }

 private:
  std::string prefix_;
  bool cleanup_;
};

class BpeDecoder final : public Decoder {
 public:
  explicit BpeDecoder(const JsonNode& section) : suffix_(section.at("suffix").as_string()) {}

  Tokens decode(Tokens tokens) const override {
    for (std::size_t i = 0; i < tokens.size(); ++i)
      tokens[i] = replaced_all(tokens[i], suffix_, i + 1 == tokens.size() ? "" : " ");
    return tokens;
  }

 private:
  std::string suffix_;
};

/// Connectionist temporal classification: repeated tokens count once, pads not at all.
class CtcDecoder final : public Decoder {
 public:
  explicit CtcDecoder(const JsonNode& section)
      : pad_(section.at("pad_token").as_string()),
        word_delimiter_(section.at("word_delimiter_token").as_string()),
        cleanup_(section.at("cleanup").as_bool()) {}

  Tokens decode(Tokens tokens) const override {
    tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
    Tokens out;
    for (std::string& token : tokens) {
      std::string text = replaced_all(std::move(token), pad_, "");
      if (cleanup_) text = replaced_all(cleaned_up(std::move(text)), word_delimiter_, " ");
      if (!text.empty()) out.push_back(std::move(text));
    }
    return out;
  }

 private:
  std::string pad_;
  std::string word_delimiter_;
  bool cleanup_;
};

}  // namespace

std::unique_ptr<Decoder> make_ctc_decoder(const JsonNode& section) {
  return std::make_unique<CtcDecoder>(section);
}
std::unique_ptr<Decoder> make_byte_level_decoder(const JsonNode&) {
  return std::make_unique<ByteLevelDecoder>();
}
std::unique_ptr<Decoder> make_replace_decoder(const JsonNode& section) {
  return std::make_unique<ReplaceDecoder>(section);
}
std::unique_ptr<Decoder> make_byte_fallback(const JsonNode&) {
  return std::make_unique<ByteFallback>();
}
std::unique_ptr<Decoder> make_fuse(const JsonNode&) { return std::make_unique<Fuse>(); }
std::unique_ptr<Decoder> make_strip_decoder(const JsonNode& section) {
  return std::make_unique<StripDecoder>(section);
}
std::unique_ptr<Decoder> make_metaspace_decoder(const JsonNode& section) {
  return std::make_unique<MetaspaceDecoder>(section);
}
std::unique_ptr<Decoder> make_word_piece_decoder(const JsonNode& section) {
  return std::make_unique<WordPieceDecoder>(section);
}
std::unique_ptr<Decoder> make_bpe_decoder(const JsonNode& section) {
  return std::make_unique<BpeDecoder>(section);
}

}  // namespace espalier::text
