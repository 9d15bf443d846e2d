#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "espalier/base/value.h"
#include "text/model/string_map.h"

namespace espalier::text {

/// A tokenizer.json in the making, for folders that hold another program's file.
class TokenizerDraft {
 public:
  Table model;  ///< but for vocabulary and merges
  Value normalizer;
  Value pre_tokenizer;
  Value post_processor;
  Value decoder;

  /// A token of the model. Of equal tokens the last one counts, as in the reference.
  void add(std::string_view token, std::int32_t id, double score = 0);
  void add_merge(std::string_view left, std::string_view right) {
    merges_.emplace_back(left, right);
  }
  /// Looked for in texts before the model is asked. A new one gets the next id; one that was added
  /// before stays as it is.
  void add_token(const std::string& token, bool special, bool normalized = false);
  void add_token(const Table& flags);

  /// -1 for an unknown token.
  std::int32_t id_of(std::string_view token) const { return ids_.find(token); }
  std::size_t size() const { return entries_.size(); }

  /// "<s> $A </s>" with the tokens that are not empty, and the same for pairs.
  void wrap_texts(const std::string& before, const std::string& behind);

  /// The text of tokenizer.json.
  std::string json() const;

 private:
  struct Entry {
    std::string token;
    std::int32_t id = 0;
    double score = 0;
  };

  StringMap ids_;
  std::int32_t next_id_ = 0;
  std::vector<Entry> entries_;
  std::vector<std::pair<std::string, std::string>> merges_;
  Array added_;
};

using Members = std::initializer_list<std::pair<std::string_view, Value>>;

Table table_of(Members members);
/// {"type": type, ...}
Table typed(std::string_view type, Members members = {});

}  // namespace espalier::text
