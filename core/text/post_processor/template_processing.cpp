#include <map>

#include "text/post_processor/post_processor.h"

namespace espalier::text {
namespace {

/// "<s> $A </s>" and the like; only the template for one sequence is used.
class TemplateProcessing final : public PostProcessor {
 public:
  explicit TemplateProcessing(const JsonNode& section) {
    std::map<std::string, std::vector<InsertedToken>> special_tokens;
    for (const auto& [name, node] : section.at("special_tokens").members())
      special_tokens[name] = read_special_token(node);
    section.at("pair").items();
    for (const JsonNode& piece : section.at("single").items()) {
      if (const auto sequence = piece.find("Sequence")) {
        const JsonNode id = sequence->at("id");
        if (id.as_string() != "A")
          id.fail("the template for one text names another one", id.as_string(), "A");
        pieces_.push_back({true, {}});
        continue;
      }
      const JsonNode id = piece.at("SpecialToken").at("id");
      const auto found = special_tokens.find(id.as_string());
      if (found == special_tokens.end())
        id.fail("a token of the template is not declared", id.as_string(),
                "a key of special_tokens");
      pieces_.push_back({false, found->second});
    }
  }

  void process(Encoding& encoding, bool add_special_tokens, bool ids_only) const override {
    const Encoding sequence = std::move(encoding);
    encoding = {};
    for (const auto& [is_sequence, tokens] : pieces_) {
      if (is_sequence) {
        append(encoding, sequence);
      } else if (add_special_tokens) {
        insert_around(encoding, {}, tokens, ids_only);
      }
    }
  }

 private:
  struct TemplatePiece {
    bool is_sequence;
    std::vector<InsertedToken> tokens;
  };

  static std::vector<InsertedToken> read_special_token(const JsonNode& node) {
    const auto ids = node.at("ids").items();
    const auto tokens = node.at("tokens").items();
    if (ids.size() != tokens.size())
      node.fail("ids and tokens differ in number", {}, "lists of equal length");
    std::vector<InsertedToken> out;
    for (std::size_t i = 0; i < ids.size(); ++i)
      out.push_back(
          {static_cast<std::int32_t>(ids[i].as_int(0, INT32_MAX)), tokens[i].as_string()});
    return out;
  }

  static void append(Encoding& encoding, const Encoding& more) {
    encoding.ids.insert(encoding.ids.end(), more.ids.begin(), more.ids.end());
    encoding.tokens.insert(encoding.tokens.end(), more.tokens.begin(), more.tokens.end());
    encoding.offsets.insert(encoding.offsets.end(), more.offsets.begin(), more.offsets.end());
  }

  std::vector<TemplatePiece> pieces_;
};

}  // namespace

std::unique_ptr<PostProcessor> make_template_processing(const JsonNode& section) {
  return std::make_unique<TemplateProcessing>(section);
}

}  // namespace espalier::text
