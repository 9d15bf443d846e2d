#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/value.h"

namespace espalier {

/// One encoded text, or two in one sequence. All lists have equal length.
struct Encoding {
  std::vector<std::int32_t> ids;
  /// Vocabulary entries as stored in tokenizer.json ("Ġhello").
  std::vector<std::string> tokens;
  /// Half-open ranges of the input in Unicode code points; (0, 0) for tokens that a post-processor
  /// added.
  std::vector<std::pair<std::int64_t, std::int64_t>> offsets;
  /// `token_type_ids` of BERT and its relatives: mostly 0 for the first text, 1 for the second one.
  std::vector<std::int32_t> type_ids;
};

/// Text to ids and back, with the results of Hugging Face tokenizers on the same tokenizer.json.
/// Immutable after construction; all methods may be called from several threads at once.
class ESPALIER_API Tokenizer {
 public:
  Tokenizer() = default;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;
  virtual ~Tokenizer();

  /// Ids alone: the fast path. `add_special_tokens` runs the post-processor (BOS and the like).
  /// `text` is UTF-8; invalid bytes are treated as U+FFFD.
  virtual std::vector<std::int32_t> encode(std::string_view text,
                                           bool add_special_tokens) const = 0;
  virtual Encoding encode_with_offsets(std::string_view text, bool add_special_tokens) const = 0;
  /// A pair of texts in one sequence, as BERT and its relatives take them. Offsets count from the
  /// start of the text that a token is from. By default one stands behind the other as
  /// encode_with_offsets() gives them.
  virtual Encoding encode_pair(std::string_view first, std::string_view second,
                               bool add_special_tokens) const;
  /// Unknown ids are skipped, as the reference does.
  virtual std::string decode(const std::vector<std::int32_t>& ids,
                             bool skip_special_tokens) const = 0;

  /// -1 when the token is not in the vocabulary.
  virtual std::int32_t token_to_id(std::string_view token) const = 0;
  /// Empty for an id outside the vocabulary.
  virtual std::string id_to_token(std::int32_t id) const = 0;
  /// Number of ids, added tokens included (largest id + 1).
  virtual std::int64_t vocab_size() const = 0;

  /// From tokenizer_config.json / special_tokens_map.json; -1 when there is none.
  virtual std::int32_t bos_id() const = 0;
  virtual std::int32_t eos_id() const = 0;
  virtual std::int32_t pad_id() const = 0;
  virtual std::int32_t unk_id() const = 0;
};

/// A rendered conversation.
struct RenderedChat {
  std::string text;
  /// Half-open ranges of `text` in Unicode code points that lie inside `{% generation %}` blocks.
  std::vector<std::pair<std::int64_t, std::int64_t>> assistant_spans;
  /// False when the template has no `{% generation %}` block: then the spans say nothing.
  bool has_generation_blocks = false;
};

/// A compiled chat template. Immutable; thread safe.
class ESPALIER_API ChatTemplate {
 public:
  ChatTemplate() = default;
  ChatTemplate(const ChatTemplate&) = delete;
  ChatTemplate& operator=(const ChatTemplate&) = delete;
  virtual ~ChatTemplate();

  /// `messages` is a list of tables as in the OpenAI chat format. `tools`, `documents` may be null.
  /// `variables` are further template variables. Throws Error(kBadInput) with the template's own
  /// message when it raises.
  virtual RenderedChat render(const Value& messages, const Value& tools, bool add_generation_prompt,
                              const Table& variables = {}) const = 0;
};

}  // namespace espalier
