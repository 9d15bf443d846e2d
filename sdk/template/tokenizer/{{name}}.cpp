// Words between blanks as tokens, from a file with one word a line; the line is the id. The first two
// are what other words become, and the end of a text.
#include <espalier/base/error.h>
#include <espalier/base/file.h>
#include <espalier/base/utf8.h>
#include <espalier/sdk/plugin.h>
#include <espalier/sdk/tokenizer_format.h>

#include <map>

namespace {

constexpr std::int32_t kUnknown = 0;
constexpr std::int32_t kEnd = 1;

// Immutable, so that any number of threads may use it.
class Words final : public espalier::Tokenizer {
 public:
  explicit Words(std::vector<std::string> words) : words_(std::move(words)) {
    for (const std::string& word : words_)
      ids_.emplace(word, static_cast<std::int32_t>(ids_.size()));
  }

  std::vector<std::int32_t> encode(std::string_view text, bool special) const override {
    return encode_with_offsets(text, special).ids;
  }

  espalier::Encoding encode_with_offsets(std::string_view raw, bool special) const override {
    const std::string text = espalier::replace_invalid_utf8(raw);
    espalier::Encoding encoding;
    std::int64_t point = 0;  // offsets count code points
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t start = text.find_first_not_of(kBlanks, at);
      point += static_cast<std::int64_t>(std::min(start, text.size()) - at);  // blanks are ASCII
      if (start == std::string::npos) break;
      at = std::min(text.find_first_of(kBlanks, start), text.size());
      const std::string word = text.substr(start, at - start);
      const auto length = static_cast<std::int64_t>(espalier::count_code_points(word));
      const auto known = ids_.find(word);
      add(encoding, known == ids_.end() ? kUnknown : known->second, point, point + length);
      point += length;
    }
    if (special) add(encoding, kEnd, 0, 0);
    return encoding;
  }

  std::string decode(const std::vector<std::int32_t>& ids, bool skip_special) const override {
    std::string text;
    for (const std::int32_t id : ids) {
      if (id < 0 || id >= vocab_size() || (skip_special && id == kEnd)) continue;
      text += (text.empty() ? "" : " ") + id_to_token(id);
    }
    return text;
  }

  std::int32_t token_to_id(std::string_view token) const override {
    const auto found = ids_.find(token);
    return found == ids_.end() ? -1 : found->second;
  }
  std::string id_to_token(std::int32_t id) const override {
    return id < 0 || id >= vocab_size() ? std::string() : words_[static_cast<std::size_t>(id)];
  }
  std::int64_t vocab_size() const override { return std::ssize(words_); }
  std::int32_t bos_id() const override { return -1; }
  std::int32_t eos_id() const override { return kEnd; }
  std::int32_t pad_id() const override { return -1; }
  std::int32_t unk_id() const override { return kUnknown; }

 private:
  static constexpr const char* kBlanks = " \t\r\n";

  void add(espalier::Encoding& encoding, std::int32_t id, std::int64_t begin,
           std::int64_t end) const {
    encoding.ids.push_back(id);
    encoding.tokens.push_back(words_[static_cast<std::size_t>(id)]);
    encoding.offsets.emplace_back(begin, end);
    encoding.type_ids.push_back(0);
  }

  std::vector<std::string> words_;
  std::map<std::string, std::int32_t, std::less<>> ids_;
};

class {{Name}} final : public espalier::TokenizerFormat {
 public:
  // Everything that is wrong with the file is said here, with its place.
  std::shared_ptr<const espalier::Tokenizer> open(
      const espalier::TokenizerFiles& files) const override {
    const std::string text = espalier::read_file(files.file);
    std::vector<std::string> words;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = std::min(text.find('\n', at), text.size());
      words.push_back(text.substr(at, end - at));
      if (words.back().empty() || !espalier::is_valid_utf8(words.back()))
        espalier::throw_bad_input("a line is no word of UTF-8", {}, "a word",
                                  files.file + ":" + std::to_string(words.size()));
      at = end + 1;
    }
    if (words.size() < 2)
      espalier::throw_bad_input("the vocabulary is too short", std::to_string(words.size()),
                                "a word for unknown ones, one for the end, and others", files.file);
    return std::make_shared<Words>(std::move(words));
  }
};

void register_components(espalier::Registrar& registrar) {
  registrar.add<espalier::TokenizerFormat, {{Name}}>("{{name}}", "words between blanks")
      .serves("files", {"*.{{name}}"});
}

}  // namespace

ESPALIER_PLUGIN("{{vendor}}.{{name}}", "0.1.0", register_components)
