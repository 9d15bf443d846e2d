// A SentencePiece model as a tokenizer.json. Classes of transformers that bring their own settings
// (which differ from those of the model file) get these; all others follow the file.
#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/base/utf8.h"
#include "text/base64.h"
#include "text/conversion/conversions.h"
#include "text/conversion/sentencepiece_model.h"
#include "text/conversion/tokenizer_draft.h"

namespace espalier::text {
namespace {

using Piece = SentencePieceModel::Piece;
using PieceType = SentencePieceModel::PieceType;

const char* const kMark = "▁";

Value replace_step(const char* from, const char* to) {
  return typed("Replace", {{"pattern", table_of({{"String", from}})}, {"content", to}});
}
Value replace_expression(const char* from, const char* to) {
  return typed("Replace", {{"pattern", table_of({{"Regex", from}})}, {"content", to}});
}
Value metaspace(const char* scheme, bool split) {
  return typed("Metaspace", {{"replacement", kMark}, {"prepend_scheme", scheme}, {"split", split}});
}
Value strip_first_space() { return typed("Strip", {{"content", " "}, {"start", 1}, {"stop", 0}}); }

/// A merge for each way to cut a piece into two others.
class MergeFinder {
 public:
  explicit MergeFinder(TokenizerDraft& draft) : draft_(draft) {}

  /// Calls `use(left, right)` for each cut of `token`.
  template <class IsPiece, class Use>
  static void cut(std::string_view token, IsPiece&& is_piece, Use&& use) {
    for (std::size_t at = 0; at < token.size();) {
      at += utf8_length(token[at]);
      if (at >= token.size()) break;
      if (is_piece(token.substr(0, at)) && is_piece(token.substr(at)))
        use(token.substr(0, at), token.substr(at));
    }
  }

  /// Ranked by the ids of what they make.
  void add_by_id(const std::vector<std::string>& tokens) {
    const auto known = [&](std::string_view part) { return draft_.id_of(part) >= 0; };
    for (std::size_t id = 0; id < tokens.size(); ++id) {
      if (draft_.id_of(tokens[id]) != static_cast<std::int32_t>(id)) continue;
      cut(tokens[id], known,
          [&](std::string_view left, std::string_view right) { draft_.add_merge(left, right); });
    }
  }

  /// Ranked by score; of normal pieces alone, since SentencePiece merges no others.
  void add_by_score(const std::vector<std::string>& tokens, const std::vector<Piece>& pieces) {
    struct Cut {
      float score;
      std::size_t id;
      std::string_view left;
      std::string_view right;
    };
    const auto is_normal = [&](std::string_view part) {
      const std::int32_t id = draft_.id_of(part);
      return id >= 0 && pieces[static_cast<std::size_t>(id)].type == PieceType::kNormal;
    };
    std::vector<Cut> cuts;
    for (std::size_t id = 0; id < tokens.size(); ++id) {
      if (!is_normal(tokens[id]) || draft_.id_of(tokens[id]) != static_cast<std::int32_t>(id))
        continue;
      cut(tokens[id], is_normal, [&](std::string_view left, std::string_view right) {
        cuts.push_back({pieces[id].score, id, left, right});
      });
    }
    std::sort(cuts.begin(), cuts.end(), [](const Cut& a, const Cut& b) {
      if (a.score != b.score) return a.score > b.score;
      if (a.id != b.id) return a.id < b.id;
      return a.left < b.left;
    });
    for (const Cut& cut : cuts) draft_.add_merge(cut.left, cut.right);
  }

 private:
  TokenizerDraft& draft_;
};

class SentencePieceConversion {
 public:
  SentencePieceConversion(const SentencePieceModel& model, const FolderConfig& config)
      : model_(model), config_(config) {
    for (const Piece& piece : model.pieces)
      tokens_.push_back(is_valid_utf8(piece.text) ? piece.text : replace_invalid_utf8(piece.text));
  }

  std::string json(const std::string& where) {
    if (is_bpe()) {
      if (config_.tokenizer_class() == "LlamaTokenizer") return follow_llama();
      if (config_.tokenizer_class() == "GemmaTokenizer") return follow_gemma();
    } else if (model_.algorithm == SentencePieceModel::Algorithm::kUnigram) {
      if (config_.tokenizer_class() == "T5Tokenizer") return follow_t5();
    } else {
      throw_bad_input("a SentencePiece model cuts texts into words or characters", {},
                      "a BPE or Unigram model", where);
    }
    return follow_file();
  }

 private:
  bool is_bpe() const { return model_.algorithm == SentencePieceModel::Algorithm::kBpe; }

  void add_pieces() {
    for (std::size_t id = 0; id < tokens_.size(); ++id)
      draft_.add(tokens_[id], static_cast<std::int32_t>(id), double{model_.pieces[id].score});
  }
  void set_bpe(const Value& unknown, bool byte_fallback, bool ignore_merges) {
    draft_.model = typed("BPE", {{"unk_token", unknown},
                                 {"fuse_unk", true},
                                 {"byte_fallback", byte_fallback},
                                 {"ignore_merges", ignore_merges}});
  }
  void set_unigram(bool byte_fallback) {
    draft_.model = typed("Unigram", {{"unk_id", model_.unk_id}, {"byte_fallback", byte_fallback}});
  }
  void add_character_map(Array& steps) const {
    if (!model_.character_map.empty())
      steps.push_back(
          typed("Precompiled", {{"precompiled_charsmap", encode_base64(model_.character_map)}}));
  }
  Array decoding_steps() const {
    return {replace_step(kMark, " "), typed("ByteFallback"), typed("Fuse")};
  }

  /// Special tokens by role, those of the configuration first; then the model's own ones.
  void add_special_tokens(std::initializer_list<std::pair<const char*, const char*>> roles) {
    for (const auto& [id, token] : config_.added_tokens()) draft_.add_token(token);
    for (const auto& [role, fallback] : roles)
      draft_.add_token(config_.token(role, fallback), true);
    for (std::size_t id = 0; id < tokens_.size(); ++id) {
      const PieceType type = model_.pieces[id].type;
      if (type == PieceType::kControl || type == PieceType::kUserDefined)
        draft_.add_token(tokens_[id], type == PieceType::kControl);
    }
  }
  void wrap_texts(const char* bos, const char* eos) {
    draft_.wrap_texts(
        config_.flag("add_bos_token", false) ? config_.token("bos_token", bos) : std::string(),
        config_.flag("add_eos_token", false) ? config_.token("eos_token", eos) : std::string());
  }

  std::string follow_llama() {
    add_pieces();
    MergeFinder(draft_).add_by_id(tokens_);
    set_bpe({}, true, false);
    const bool prefix = config_.flag("add_prefix_space", true);
    draft_.pre_tokenizer = metaspace(!prefix                         ? "never"
                                     : config_.flag("legacy", false) ? "always"
                                                                     : "first",
                                     false);
    Array steps = decoding_steps();
    if (prefix) steps.push_back(strip_first_space());
    draft_.decoder = typed("Sequence", {{"decoders", steps}});
    add_special_tokens(
        {{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"unk_token", "<unk>"}, {"pad_token", ""}});
    wrap_texts("<s>", "</s>");
    return draft_.json();
  }

  std::string follow_gemma() {
    add_pieces();
    MergeFinder(draft_).add_by_id(tokens_);
    set_bpe(config_.token("unk_token", "<unk>"), true, false);
    draft_.normalizer = replace_step(" ", kMark);
    draft_.pre_tokenizer = typed("Split", {{"pattern", table_of({{"String", " "}})},
                                           {"behavior", "MergedWithPrevious"},
                                           {"invert", false}});
    draft_.decoder = typed("Sequence", {{"decoders", decoding_steps()}});
    add_special_tokens({{"bos_token", "<bos>"},
                        {"eos_token", "<eos>"},
                        {"unk_token", "<unk>"},
                        {"pad_token", "<pad>"},
                        {"mask_token", "<mask>"}});
    wrap_texts("<bos>", "<eos>");
    return draft_.json();
  }

  std::string follow_t5() {
    add_pieces();
    const std::int64_t extra_ids = config_.integer("extra_ids", 100);
    for (std::int64_t i = extra_ids; i-- > 0;)
      draft_.add("<extra_id_" + std::to_string(i) + ">", static_cast<std::int32_t>(draft_.size()));
    // As the class does, whatever the file says.
    constexpr std::int64_t kUnknown = 2;
    draft_.model = typed("Unigram", {{"unk_id", kUnknown}, {"byte_fallback", false}});
    Array normalizers;
    add_character_map(normalizers);
    if (!normalizers.empty()) draft_.normalizer = normalizers[0];
    draft_.pre_tokenizer =
        typed("Sequence",
              {{"pretokenizers", Array{typed("WhitespaceSplit"), metaspace("always", true)}}});
    draft_.decoder = metaspace("always", true);
    add_special_tokens({{"eos_token", "</s>"}, {"unk_token", "<unk>"}, {"pad_token", "<pad>"}});
    for (std::int64_t i = extra_ids; i-- > 0;)
      draft_.add_token("<extra_id_" + std::to_string(i) + ">", true);
    draft_.wrap_texts("", config_.token("eos_token", "</s>"));
    return draft_.json();
  }

  /// The configuration may give placeholders of the file other names.
  void rename_pieces() {
    const auto names = config_.added_tokens();
    std::vector<std::string> renamed = tokens_;
    for (const auto& [id, flags] : names) {
      const std::string& name = flags.find("content")->as_string();
      const bool renames = id < static_cast<std::int64_t>(tokens_.size());
      const auto kept = std::find(tokens_.begin(), tokens_.end(), name);
      const auto kept_id = kept - tokens_.begin();
      const bool taken =
          kept != tokens_.end() && std::none_of(names.begin(), names.end(),
                                                [&](const auto& n) { return n.first == kept_id; });
      if (renames && !taken) renamed[static_cast<std::size_t>(id)] = name;
    }
    tokens_ = std::move(renamed);
  }

  std::string follow_file() {
    if (is_bpe()) rename_pieces();
    add_pieces();
    std::vector<std::string> user_defined;
    for (std::size_t id = 0; id < tokens_.size(); ++id)
      if (model_.pieces[id].type == PieceType::kUserDefined) user_defined.push_back(tokens_[id]);
    if (is_bpe()) {
      MergeFinder(draft_).add_by_score(tokens_, model_.pieces);
      set_bpe(model_.unk_piece, model_.byte_fallback, !user_defined.empty());
    } else {
      set_unigram(model_.byte_fallback);
    }
    const bool legacy = config_.flag("legacy", true);
    set_file_normalizer(legacy);
    set_file_pre_tokenizer(legacy, user_defined);
    Array decoders = {replace_step(kMark, " ")};
    if (model_.byte_fallback) decoders.push_back(typed("ByteFallback"));
    if (model_.add_dummy_prefix || model_.byte_fallback) decoders.push_back(typed("Fuse"));
    if (model_.add_dummy_prefix) decoders.push_back(strip_first_space());
    draft_.decoder = typed("Sequence", {{"decoders", decoders}});
    add_file_special_tokens();
    return draft_.json();
  }

  void set_file_normalizer(bool legacy) {
    Array steps;
    add_character_map(steps);
    if (model_.remove_extra_whitespaces) {
      steps.push_back(replace_expression(R"(\A +| +\z)", ""));
      steps.push_back(replace_expression(" {2,}", " "));
    }
    if (model_.escape_whitespaces) steps.push_back(replace_step(" ", kMark));
    // Metaspace leaves out the prefix where the text starts with the mark; SentencePiece doesn't.
    if (model_.add_dummy_prefix && legacy) steps.push_back(replace_expression(R"(\A▁)", "▁▁"));
    draft_.normalizer = typed("Sequence", {{"normalizers", steps}});
  }

  void set_file_pre_tokenizer(bool legacy, std::vector<std::string> user_defined) {
    Array steps;
    if (model_.add_dummy_prefix) steps.push_back(metaspace(legacy ? "always" : "first", false));
    if (!user_defined.empty()) {
      std::stable_sort(user_defined.begin(), user_defined.end(), [](const auto& a, const auto& b) {
        return count_code_points(a) > count_code_points(b);
      });
      std::string expression;
      for (const std::string& piece : user_defined)
        expression += (expression.empty() ? "" : "|") + escaped(piece);
      steps.push_back(typed("Split", {{"pattern", table_of({{"Regex", expression}})},
                                      {"behavior", "Isolated"},
                                      {"invert", false}}));
    }
    if (!steps.empty()) draft_.pre_tokenizer = typed("Sequence", {{"pretokenizers", steps}});
  }

  static std::string escaped(std::string_view literal) {
    std::string out;
    for (const char c : literal) {
      const bool special =
          std::string_view("()[]{}?*+-|^$\\.&~# \t\n\r\v\f").find(c) != std::string_view::npos;
      if (special) out += '\\';
      out += c;
    }
    return out;
  }

  void add_file_special_tokens() {
    for (auto [id, token] : config_.added_tokens()) {
      // Found in the raw text, so that each part between them gets its own prefix.
      if (model_.add_dummy_prefix) token.set("normalized", false);
      draft_.add_token(token);
    }
    const auto add = [&](const char* role, std::int32_t id, const std::string& piece) {
      draft_.add_token(config_.token(role, id >= 0 ? piece : std::string()), true);
    };
    add("bos_token", model_.bos_id, model_.bos_piece);
    add("eos_token", model_.eos_id, model_.eos_piece);
    add("unk_token", model_.unk_id, model_.unk_piece);
    for (const char* role : {"sep_token", "pad_token", "cls_token", "mask_token"})
      draft_.add_token(config_.token(role, ""), true);
    for (std::size_t id = 0; id < tokens_.size(); ++id)
      if (model_.pieces[id].type == PieceType::kControl) draft_.add_token(tokens_[id], true);
    wrap_texts(model_.bos_piece.c_str(), model_.eos_piece.c_str());
  }

  const SentencePieceModel& model_;
  const FolderConfig& config_;
  std::vector<std::string> tokens_;  ///< by id
  TokenizerDraft draft_;
};

}  // namespace

std::string convert_sentencepiece(std::string_view bytes, const std::string& where,
                                  const FolderConfig& config) {
  const SentencePieceModel model = read_sentencepiece_model(bytes, where);
  return SentencePieceConversion(model, config).json(where);
}

}  // namespace espalier::text
