#include "formats/gguf_tensor_plan.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>

#include "espalier/base/json.h"
#include "formats/float_encoding.h"

namespace espalier::formats {
namespace {

/// Elements that are converted at once.
constexpr std::int64_t kChunkElements = std::int64_t{1} << 18;

/// How the stored tensor differs from the checkpoint's.
struct Change {
  std::int64_t interleaved_heads = 0;
  std::int64_t qkv_heads = 0;
  bool transposed = false;
  float added = 0;

  bool moves_rows() const { return interleaved_heads > 0 || qkv_heads > 0; }
};

struct Place {
  std::string name;
  std::vector<std::string> sources;  ///< several: stacked along a new first dimension
  Change change;
};

std::string shape_text(const std::vector<std::int64_t>& shape) {
  return dump_json(Array(shape.begin(), shape.end()));
}

/// A name against a pattern with '#' and '@' for numbers.
struct Match {
  std::string layer;
  std::optional<std::size_t> expert;
};

std::optional<Match> match_pattern(std::string_view pattern, std::string_view name) {
  Match match;
  while (!pattern.empty()) {
    const char expected = pattern.front();
    pattern.remove_prefix(1);
    if (expected != '#' && expected != '@') {
      if (name.empty() || name.front() != expected) return std::nullopt;
      name.remove_prefix(1);
      continue;
    }
    const std::size_t digits = std::min(name.find_first_not_of("0123456789"), name.size());
    if (digits == 0 || digits > 6) return std::nullopt;
    if (expected == '#') {
      match.layer = name.substr(0, digits);
    } else {
      std::size_t expert = 0;
      std::from_chars(name.data(), name.data() + digits, expert);
      match.expert = expert;
    }
    name.remove_prefix(digits);
  }
  return name.empty() ? std::optional(match) : std::nullopt;
}

/// Buffers that older checkpoints hold beside their weights.
bool is_buffer(std::string_view name) {
  return name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias") ||
         name.ends_with(".attention.bias") || name.ends_with(".attention.masked_bias") ||
         name.ends_with(".rotary_emb.inv_freq");
}

std::string replace_layer(std::string_view pattern, const std::string& layer) {
  std::string name(pattern);
  if (const std::size_t mark = name.find('#'); mark != std::string::npos)
    name.replace(mark, 1, layer);
  return name;
}

class Planner {
 public:
  Planner(const CheckpointReader& checkpoint, const GgufFamily& family,
          const ModelMetadata& metadata, GgmlType type, ProblemList& problems)
      : checkpoint_(checkpoint),
        family_(family),
        metadata_(metadata),
        type_(type),
        problems_(problems) {}

  std::vector<GgufTensorSource> run() {
    for (const std::string& name : checkpoint_.names()) {
      if (!is_buffer(name) && !place(name)) {
        problems_.add({.code = ErrorCode::kUnsupported,
                       .what = "tensor '" + name + "' has no place in the layout of GGUF",
                       .found = shape_text(checkpoint_.at(name).shape),
                       .where = checkpoint_.path()});
      }
    }
    const auto embedding = places_.find("token_embd.weight");
    if (family_.needs_head && embedding != places_.end() && !places_.contains("output.weight")) {
      places_["output.weight"] = embedding->second;
      places_["output.weight"].name = "output.weight";
    }
    std::vector<GgufTensorSource> sources;
    for (const auto& factors : metadata_.rope_factors()) sources.push_back(factor_source(factors));
    for (const auto& [name, place] : places_) {
      if (auto source = tensor_source(place)) sources.push_back(std::move(*source));
    }
    if (!places_.contains("token_embd.weight")) {
      problems_.add({.what = "the checkpoint has no embedding",
                     .expected = "a tensor for token_embd.weight",
                     .where = checkpoint_.path()});
    }
    return sources;
  }

 private:
  bool place(const std::string& name) {
    const std::size_t dot = name.rfind('.');
    if (dot == std::string::npos) return false;
    const std::string suffix = name.substr(dot);
    if (suffix != ".weight" && suffix != ".bias") return false;
    for (const std::span<const TensorRule> rules : family_.rules) {
      for (const TensorRule& rule : rules) {
        auto match = match_pattern(rule.from, std::string_view(name).substr(0, dot));
        // Checkpoints of a bare decoder lack the name of its model.
        const std::size_t prefix = rule.from.find('.');
        if (!match && prefix != std::string_view::npos)
          match =
              match_pattern(rule.from.substr(prefix + 1), std::string_view(name).substr(0, dot));
        if (!match || (suffix == ".bias" && !may_have_bias(rule))) continue;
        const std::string target = replace_layer(rule.to, match->layer) + suffix;
        Place& place = places_[target];
        place.name = target;
        place.change = change_for(rule, suffix);
        const std::size_t index = match->expert.value_or(0);
        if (index >= place.sources.size()) place.sources.resize(index + 1);
        place.sources[index] = name;
        return true;
      }
    }
    return false;
  }

  bool may_have_bias(const TensorRule& rule) const {
    const bool norm = rule.to.ends_with("norm");
    const bool attention_input =
        rule.to.starts_with("blk.#.attn_") && !norm && !rule.to.ends_with("attn_output");
    switch (family_.biases) {
      case Biases::kAttentionInputs: return attention_input;
      case Biases::kLinears: return rule.to.starts_with("blk.") && !norm;
      case Biases::kNorms: return attention_input || norm;
      case Biases::kAll: break;
    }
    return true;
  }

  Change change_for(const TensorRule& rule, const std::string& suffix) const {
    Change change;
    const bool weight = suffix == ".weight";
    if (family_.interleaves_rotary && rule.to.ends_with(".attn_q"))
      change.interleaved_heads = metadata_.heads();
    if (family_.interleaves_rotary && rule.to.ends_with(".attn_k"))
      change.interleaved_heads = metadata_.kv_heads();
    if (family_.qkv_by_head && rule.to.ends_with(".attn_qkv")) change.qkv_heads = metadata_.heads();
    if (family_.norms_add_one && weight && rule.to.ends_with("norm")) change.added = 1;
    change.transposed =
        family_.transposed && weight && rule.to.starts_with("blk.") && !rule.to.ends_with("norm");
    return change;
  }

  GgmlType type_of(const Place& place, const std::vector<std::int64_t>& shape) const {
    const bool plain = shape.size() < 2 || place.name.ends_with("norm.weight") ||
                       place.name.ends_with("ffn_gate_inp.weight") ||
                       place.name == "position_embd.weight";
    if (plain) return GgmlType::kF32;
    if (shape.back() % ggml_type_info(type_).block_elements != 0) return GgmlType::kF16;
    return type_;
  }

  std::optional<GgufTensorSource> tensor_source(const Place& place) {
    std::vector<std::int64_t> shape = checked_shape(place);
    if (shape.empty()) return std::nullopt;
    const GgmlType type = type_of(place, shape);
    const Change change = place.change;
    return GgufTensorSource{.name = place.name,
                            .type = type,
                            .shape = std::move(shape),
                            .write = [this_checkpoint = &checkpoint_, sources = place.sources,
                                      change, type](const TensorSink& sink) {
                              for (const std::string& source : sources)
                                write_tensor(*this_checkpoint, source, change, type, sink);
                            }};
  }

  /// Empty after adding a problem.
  std::vector<std::int64_t> checked_shape(const Place& place) {
    std::vector<std::int64_t> shape;
    for (const std::string& source : place.sources) {
      if (source.empty()) {
        problems_.add({.what = "an expert of '" + place.name + "' is missing",
                       .expected = std::to_string(place.sources.size()) + " experts",
                       .where = checkpoint_.path()});
        return {};
      }
      const TensorInfo& tensor = checkpoint_.at(source);
      const std::string where = checkpoint_.path() + ", tensor '" + source + "'";
      if (!is_float(tensor.dtype)) {
        problems_.add({.code = ErrorCode::kUnsupported,
                       .what = "a weight is of a type that can't be exported",
                       .found = std::string(dtype_name(tensor.dtype)),
                       .expected = "F32, F16, BF16 or F64",
                       .where = where});
        return {};
      }
      std::vector<std::int64_t> own = tensor.shape;
      const std::int64_t heads =
          std::max(place.change.interleaved_heads * 2, place.change.qkv_heads * 3);
      const bool fits = !own.empty() && own.size() <= 2 && tensor.element_count() > 0 &&
                        (heads == 0 || own.front() % heads == 0) &&
                        (!place.change.transposed || own.size() == 2);
      if (!fits || (!shape.empty() && shape != own)) {
        problems_.add({.what = "a tensor has the wrong shape",
                       .found = shape_text(own),
                       .expected = shape.empty() ? "a vector or matrix whose rows fit the heads"
                                                 : shape_text(shape) + ", as the other experts",
                       .where = where});
        return {};
      }
      shape = own;
    }
    if (place.change.transposed) std::swap(shape[0], shape[1]);
    if (place.name.find("_exps.") != std::string::npos)
      shape.insert(shape.begin(), std::ssize(place.sources));
    return shape;
  }

  static GgufTensorSource factor_source(const RopeFactors& factors) {
    return {.name = factors.name,
            .shape = {std::ssize(factors.values)},
            .write = [values = factors.values](const TensorSink& sink) {
              sink(std::as_bytes(std::span<const float>(values)));
            }};
  }

  /// The row of the checkpoint's tensor that is stored as `row`.
  static std::int64_t source_row(const Change& change, std::int64_t rows, std::int64_t row) {
    if (change.interleaved_heads > 0) {
      const std::int64_t head_rows = rows / change.interleaved_heads;
      const std::int64_t within = row % head_rows;
      return row - within + within % 2 * (head_rows / 2) + within / 2;
    }
    const std::int64_t head_rows = rows / (3 * change.qkv_heads);
    const std::int64_t part = row / (rows / 3);
    const std::int64_t head = row % (rows / 3) / head_rows;
    return (head * 3 + part) * head_rows + row % head_rows;
  }

  static void write_tensor(const CheckpointReader& checkpoint, const std::string& name,
                           const Change& change, GgmlType type, const TensorSink& sink) {
    const TensorFile& file = checkpoint.file_of(name);
    const TensorInfo& tensor = file.at(name);
    const auto element = static_cast<std::size_t>(dtype_bits(tensor.dtype)) / 8;
    const std::int64_t elements = tensor.element_count();
    const bool vector = tensor.shape.size() == 1;
    // A vector whose elements move is one row for each.
    std::int64_t columns = vector && change.moves_rows() ? 1 : tensor.shape.back();
    std::int64_t rows = elements / columns;
    if (change.transposed) std::swap(rows, columns);
    std::vector<std::byte> whole;
    if (change.moves_rows() || change.transposed) {
      whole.resize(static_cast<std::size_t>(elements) * element);
      file.read_bytes(name, 0, whole);
    }
    const std::int64_t step = std::clamp<std::int64_t>(kChunkElements / columns, 1, rows);
    std::vector<std::byte> bytes;
    std::vector<float> values;
    for (std::int64_t row = 0; row < rows; row += step) {
      const std::int64_t count = std::min(step, rows - row);
      bytes.resize(static_cast<std::size_t>(count * columns) * element);
      values.resize(static_cast<std::size_t>(count * columns));
      const auto copy = [&](std::int64_t from, std::int64_t to, std::int64_t size) {
        std::copy_n(
            whole.begin() +
                static_cast<std::ptrdiff_t>(from) * static_cast<std::ptrdiff_t>(element),
            static_cast<std::size_t>(size) * element,
            bytes.begin() + static_cast<std::ptrdiff_t>(to) * static_cast<std::ptrdiff_t>(element));
      };
      if (change.transposed) {
        for (std::int64_t column = 0; column < columns; ++column)
          for (std::int64_t i = 0; i < count; ++i)
            copy(column * rows + row + i, i * columns + column, 1);
      } else if (change.moves_rows()) {
        for (std::int64_t i = 0; i < count; ++i)
          copy(source_row(change, rows, row + i) * columns, i * columns, columns);
      } else {
        file.read_bytes(name, static_cast<std::uint64_t>(row * columns) * element, bytes);
      }
      decode_floats(tensor.dtype, bytes, values);
      if (change.added != 0)
        for (float& value : values) value += change.added;
      encode_ggml(values, type, name, sink);
    }
  }

  const CheckpointReader& checkpoint_;
  const GgufFamily& family_;
  const ModelMetadata& metadata_;
  GgmlType type_;
  ProblemList& problems_;
  std::map<std::string, Place> places_;
};

}  // namespace

std::vector<GgufTensorSource> plan_gguf_tensors(const CheckpointReader& checkpoint,
                                                const GgufFamily& family,
                                                const ModelMetadata& metadata, GgmlType type,
                                                ProblemList& problems) {
  return Planner(checkpoint, family, metadata, type, problems).run();
}

}  // namespace espalier::formats
