#pragma once

#include <memory>
#include <vector>

#include "espalier/sdk/tokenizer.h"
#include "text/json_node.h"

namespace espalier::text {

/// Adds special tokens around an encoded text and corrects its offsets. Immutable; thread safe.
class PostProcessor {
 public:
  PostProcessor() = default;
  PostProcessor(const PostProcessor&) = delete;
  PostProcessor& operator=(const PostProcessor&) = delete;
  virtual ~PostProcessor() = default;

  /// `parts` are the encodings of one or two texts, and whatever earlier post-processors put
  /// between them; they are joined at the end. They have ids alone (the other lists are empty) when
  /// `ids_only`.
  virtual void process(std::vector<Encoding>& parts, bool add_special_tokens,
                       bool ids_only) const = 0;
};

/// From the section `post_processor` of tokenizer.json.
std::unique_ptr<PostProcessor> make_post_processor(const JsonNode& section);

std::unique_ptr<PostProcessor> make_post_processor_sequence(const JsonNode& section);
std::unique_ptr<PostProcessor> make_byte_level_post_processor(const JsonNode& section);
std::unique_ptr<PostProcessor> make_template_processing(const JsonNode& section);
std::unique_ptr<PostProcessor> make_roberta_processing(const JsonNode& section);
std::unique_ptr<PostProcessor> make_bert_processing(const JsonNode& section);

/// A token that a post-processor inserts.
struct InsertedToken {
  std::int32_t id = 0;
  std::string token;
};

/// Appends a token with offsets (0, 0).
void append_token(Encoding& encoding, const InsertedToken& token, std::int32_t type_id,
                  bool ids_only);

Encoding join_encodings(std::vector<Encoding> parts);

/// Takes white space at both ends of tokens out of their offsets.
void trim_offsets(Encoding& encoding, bool add_prefix_space);

}  // namespace espalier::text
