#include <map>

#include "text/post_processor/post_processor.h"

namespace espalier::text {
namespace {

/// "<s> $A </s>" for one text and "<s> $A </s> $B </s>" for two, or the like.
class TemplateProcessing final : public PostProcessor {
 public:
  explicit TemplateProcessing(const JsonNode& section) {
    SpecialTokens special_tokens;
    for (const auto& [name, node] : section.at("special_tokens").members())
      special_tokens[name] = read_special_token(node);
    single_ = read_template(section.at("single"), special_tokens, false);
    pair_ = read_template(section.at("pair"), special_tokens, true);
  }

  void process(std::vector<Encoding>& parts, bool add_special_tokens,
               bool ids_only) const override {
    if (parts.size() > 2)
      throw_bad_input("a template stands behind a post-processor that made several parts already",
                      std::to_string(parts.size()) + " parts", "one or two texts", {});
    std::vector<Encoding> out;
    for (const TemplatePiece& piece : parts.size() == 1 ? single_ : pair_) {
      if (piece.sequence < 0) {
        if (!add_special_tokens) continue;
        Encoding& special = out.emplace_back();
        for (const InsertedToken& token : piece.tokens)
          append_token(special, token, piece.type_id, ids_only);
        continue;
      }
      Encoding& text = out.emplace_back(parts[static_cast<std::size_t>(piece.sequence)]);
      if (!ids_only) text.type_ids.assign(text.ids.size(), piece.type_id);
    }
    parts = std::move(out);
  }

 private:
  struct TemplatePiece {
    int sequence = -1;  ///< 0 or 1; -1 for special tokens
    std::int32_t type_id = 0;
    std::vector<InsertedToken> tokens;
  };
  using SpecialTokens = std::map<std::string, std::vector<InsertedToken>>;

  static std::vector<TemplatePiece> read_template(const JsonNode& section,
                                                  const SpecialTokens& special_tokens, bool pair) {
    std::vector<TemplatePiece> pieces;
    for (const JsonNode& item : section.items()) {
      TemplatePiece& piece = pieces.emplace_back();
      if (const auto sequence = item.find("Sequence")) {
        const JsonNode id = sequence->at("id");
        const std::string name = id.as_string();
        if (name != "A" && (name != "B" || !pair))
          id.fail("a template names a text that is not there", name, pair ? "A or B" : "A");
        piece.sequence = name == "A" ? 0 : 1;
        piece.type_id = static_cast<std::int32_t>(sequence->at("type_id").as_int(0, INT32_MAX));
        continue;
      }
      const JsonNode special = item.at("SpecialToken");
      const JsonNode id = special.at("id");
      piece.type_id = static_cast<std::int32_t>(special.at("type_id").as_int(0, INT32_MAX));
      const auto found = special_tokens.find(id.as_string());
      if (found == special_tokens.end())
        id.fail("a token of the template is not declared", id.as_string(),
                "a key of special_tokens");
      piece.tokens = found->second;
    }
    return pieces;
  }

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

  std::vector<TemplatePiece> single_;
  std::vector<TemplatePiece> pair_;
};

}  // namespace

std::unique_ptr<PostProcessor> make_template_processing(const JsonNode& section) {
  return std::make_unique<TemplateProcessing>(section);
}

}  // namespace espalier::text
