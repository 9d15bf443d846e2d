#include "sharing_plan.h"

#include <fnmatch.h>

#include <algorithm>
#include <cctype>
#include <set>
#include <unordered_set>

#include "espalier/base/suggest.h"
#include "espalier/nn/embedding.h"
#include "espalier/nn/expert_linear.h"
#include "sharing_checks.h"

namespace espalier {
namespace {

using Entry = SharingPlan::Entry;

constexpr const char* kVocabulary = "vocab";

/// Names that recipes and checkpoints have for the styles.
std::optional<SharingStyle> style_from_name(const std::string& name) {
  static const std::map<std::string, SharingStyle> kNames = {
      {"replicated", SharingStyle::kWhole},
      {"replicate", SharingStyle::kWhole},
      {"colwise", SharingStyle::kOutputs},
      {"packed_colwise", SharingStyle::kOutputs},
      {"rowwise", SharingStyle::kInputs},
      {"packed_rowwise", SharingStyle::kInputs},
      {"embedding_rowwise", SharingStyle::kInputs},
      {"colwise_rep", SharingStyle::kOutputsJoin},
      {"colwise_gather_output", SharingStyle::kOutputsJoin},
      {"rowwise_rep", SharingStyle::kInputsSplit},
      {"rowwise_split_input", SharingStyle::kInputsSplit}};
  const auto found = kNames.find(name);
  return found == kNames.end() ? std::nullopt : std::optional(found->second);
}

bool is_head_axis(const std::string& axis) { return axis == "heads" || axis == "kv_heads"; }

/// What is shared together: all heads of a block, or the inner dimension of its MLP; else empty.
std::string family_of(const Dimension& dimension) {
  for (const AxisSegment& segment : dimension.segments) {
    if (is_head_axis(segment.axis)) return "heads";
    if (segment.axis == "mlp") return segment.axis;
  }
  return {};
}

bool is_vocabulary(const Dimension& dimension) {
  return dimension.segments.size() == 1 && dimension.segments.front().axis == kVocabulary;
}

/// The style that follows from the axes of a linear's weight.
SharingStyle natural_style(const nn::Linear& linear) {
  const std::vector<Dimension>& dimensions = linear.weight()->spec().dimensions;
  if (!family_of(dimensions[0]).empty()) return SharingStyle::kOutputs;
  if (!family_of(dimensions[1]).empty()) return SharingStyle::kInputs;
  return SharingStyle::kWhole;
}

bool keeps_shares(SharingStyle style) {
  return style == SharingStyle::kOutputs || style == SharingStyle::kInputs;
}

/// Run `index` of `size` indices cut as evenly as they go, the first runs one longer.
IndexRun balanced_run(std::int64_t size, int index, int parts) {
  const std::int64_t each = size / parts;
  const std::int64_t longer = size % parts;
  return {index * each + std::min<std::int64_t>(index, longer), each + (index < longer ? 1 : 0)};
}

class PlanBuilder {
 public:
  PlanBuilder(Model& model, const SharingRanks& ranks, ProblemList& problems)
      : model_(model), ranks_(ranks), problems_(problems) {}

  SharingPlan build(const SharingPatterns& patterns) {
    find_blocks();
    choose_styles();
    override_styles(patterns);
    check_shared_models(model_, ranks_, shares_layers(), problems_);
    decide_families();
    check_sizes(model_, ranks_, plan_, shared_families_names(), problems_);
    cut_parameters();
    find_stand_ins();
    check_adapters(model_, plan_, problems_);
    return std::move(plan_);
  }

 private:
  void find_blocks() {
    for (const Tower& tower : model_.towers()) {
      for (const Block* block : tower.blocks) {
        for (const auto& parameter : block->parameters())
          block_of_.emplace(parameter.get(), block->name());
      }
    }
    for (const nn::ExpertLinear* experts : model_.parts().expert_linears) {
      whole_.insert(experts->weight().get());
      if (experts->bias() != nullptr) whole_.insert(experts->bias().get());
    }
  }

  void choose_styles() {
    for (nn::Embedding* table : model_.parts().embeddings) {
      if (is_vocabulary(table->weight()->spec().dimensions[0]))
        plan_.tables.push_back(table);
      else
        whole_.insert(table->weight().get());
    }
    const nn::Linear* head = &model_.head().linear();
    for (nn::Linear* linear : model_.parts().linears) {
      const bool in_block = block_of_.contains(linear->weight().get());
      Entry entry{linear, natural_style(*linear), in_block, linear == head};
      if (entry.is_head)
        entry.style = is_vocabulary(linear->weight()->spec().dimensions[0])
                          ? SharingStyle::kOutputsJoin
                          : SharingStyle::kWhole;
      plan_.linears.push_back(entry);
    }
  }

  void override_styles(const SharingPatterns& patterns) {
    std::vector<std::string> names;
    for (const Entry& entry : plan_.linears) names.push_back(entry.linear->name());
    const std::vector<nn::Embedding*> tables = plan_.tables;
    for (const nn::Embedding* table : tables) names.push_back(table->name());
    for (const auto& [pattern, name] : patterns) {
      const auto style = style_from_name(name);
      if (!style) {
        problem("there is no such way to share a module", name,
                "colwise, rowwise, colwise_rep, rowwise_rep or replicated", pattern, {});
        continue;
      }
      if (std::none_of(names.begin(), names.end(),
                       [&, &text = pattern](const auto& each) { return matches(text, each); })) {
        problem("a pattern of the plan matches no linear and no table of token vectors", pattern,
                "a module's name with '*' and '?'", pattern, nearest(pattern, names));
        continue;
      }
      for (Entry& entry : plan_.linears)
        if (matches(pattern, entry.linear->name())) set_style(entry, *style, name, pattern);
      for (nn::Embedding* table : tables)
        if (matches(pattern, table->name())) set_table_style(table, *style, name, pattern);
    }
    check_tied();
  }

  static bool matches(const std::string& pattern, const std::string& name) {
    return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
  }

  /// Names with '*' for numbers come first where the pattern has one.
  static std::string nearest(const std::string& pattern, const std::vector<std::string>& names) {
    std::set<std::string> starred;
    for (const std::string& name : names) {
      std::string general;
      for (const char letter : name) {
        if (std::isdigit(static_cast<unsigned char>(letter)) == 0)
          general += letter;
        else if (!general.ends_with('*'))
          general += '*';
      }
      starred.insert(general);
    }
    const std::vector<std::string> general(starred.begin(), starred.end());
    std::string hint;
    if (pattern.find('*') == std::string::npos) hint = did_you_mean(pattern, names);
    if (hint.empty()) hint = did_you_mean(pattern, general);
    return hint.empty() ? "its modules are " + join_names(general) : hint;
  }

  void set_style(Entry& entry, SharingStyle style, const std::string& name,
                 const std::string& pattern) {
    const std::string& linear = entry.linear->name();
    if (entry.is_head) {
      // Losses take the logits as they are: whether they are joined is up to them.
      if (style == SharingStyle::kOutputs) style = SharingStyle::kOutputsJoin;
      if (style == SharingStyle::kInputs) style = SharingStyle::kInputsSplit;
    } else if (ranks_.sequence_parallel && entry.in_block && style != entry.style) {
      problem("with sequence_parallel ranks share the layers in one way alone",
              linear + " = " + name, {}, pattern, "leave the pattern out, or sequence_parallel");
      return;
    }
    const SharingStyle natural = natural_style(*entry.linear);
    if (keeps_shares(style) && !entry.is_head && style != natural) {
      const bool outputs = style == SharingStyle::kOutputs;
      problem(outputs ? "what follows needs all outputs of this linear"
                      : "the linear needs inputs that no other has cut",
              linear + " = " + name, outputs ? "colwise_rep" : "rowwise_rep", pattern, {});
      return;
    }
    entry.style = style;
  }

  void set_table_style(nn::Embedding* table, SharingStyle style, const std::string& name,
                       const std::string& pattern) {
    if (style == SharingStyle::kOutputs || style == SharingStyle::kOutputsJoin) {
      problem("a table of token vectors is cut by the vocabulary alone",
              table->name() + " = " + name, "rowwise, rowwise_rep or replicated", pattern, {});
      return;
    }
    std::erase(plan_.tables, table);
    if (style != SharingStyle::kWhole) plan_.tables.push_back(table);
  }

  /// A head that has its weight from a table is shared as that is.
  void check_tied() {
    for (Entry& entry : plan_.linears) {
      for (nn::Embedding* table : model_.parts().embeddings) {
        if (table->weight() != entry.linear->weight()) continue;
        const bool cut =
            std::find(plan_.tables.begin(), plan_.tables.end(), table) != plan_.tables.end();
        if (cut == (entry.style == SharingStyle::kOutputsJoin) &&
            (cut || entry.style == SharingStyle::kWhole))
          continue;
        problem("two modules with one weight are to be shared in different ways",
                table->name() + " and " + entry.linear->name(), "the same for both",
                entry.linear->name(),
                "rowwise for the table goes with colwise for the head, replicated with replicated");
      }
    }
  }

  bool shares_layers() const {
    return std::any_of(plan_.linears.begin(), plan_.linears.end(), [](const Entry& entry) {
      return entry.in_block && keeps_shares(entry.style);
    });
  }

  std::string family_key(const Parameter& parameter, const Dimension& dimension) const {
    const auto block = block_of_.find(&parameter);
    const std::string family = family_of(dimension);
    return family.empty() ? family
                          : (block == block_of_.end() ? "" : block->second) + ": " + family;
  }

  /// Families whose linears pass shares on; one that half of them do is a problem.
  void decide_families() {
    std::map<std::string, std::pair<std::string, std::string>> members;  // shared, whole
    for (const Entry& entry : plan_.linears) {
      if (natural_style(*entry.linear) == SharingStyle::kWhole) continue;
      for (const Dimension& dimension : entry.linear->weight()->spec().dimensions) {
        const std::string key = family_key(*entry.linear->weight(), dimension);
        if (key.empty()) continue;
        auto& [shared, whole] = members[key];
        (keeps_shares(entry.style) ? shared : whole) = entry.linear->name();
      }
    }
    for (const auto& [key, names] : members) {
      const auto& [shared, whole] = names;
      if (!shared.empty()) shared_families_.insert(key);
      if (shared.empty() || whole.empty()) continue;
      problem("the plan cuts one linear and not another that goes with it",
              shared + " is cut, " + whole + " is not", "both, or neither", whole,
              "what makes heads or the inner dimension and what reads them are cut together");
    }
  }

  std::set<std::string> shared_families_names() const {
    std::set<std::string> names;
    for (const std::string& key : shared_families_) names.insert(key.substr(key.rfind(' ') + 1));
    return names;
  }

  void cut_parameters() {
    std::unordered_set<const Parameter*> of_linears;
    for (const Entry& entry : plan_.linears) {
      const Parameter& weight = *entry.linear->weight();
      of_linears.insert(&weight);
      if (entry.linear->bias() != nullptr) of_linears.insert(entry.linear->bias().get());
      if (entry.style == SharingStyle::kWhole) continue;
      const std::size_t dimension = side_of(entry.style) == nn::LinearSide::kOutputs ? 0 : 1;
      const bool even = keeps_shares(entry.style);
      add_cut(weight, dimension, even);
      if (entry.linear->bias() != nullptr && dimension == 0)
        add_cut(*entry.linear->bias(), 0, even);
    }
    for (const nn::Embedding* table : plan_.tables) add_cut(*table->weight(), 0, false);
    for (const auto& parameter : model_.parts().parameters) {
      if (whole_.contains(parameter.get()) || of_linears.contains(parameter.get())) continue;
      const std::vector<Dimension>& dimensions = parameter->spec().dimensions;
      for (std::size_t d = 0; d < dimensions.size(); ++d) {
        if (!shared_families_.contains(family_key(*parameter, dimensions[d]))) continue;
        add_cut(*parameter, d, true);
        break;
      }
    }
  }

  void add_cut(const Parameter& parameter, std::size_t dimension, bool even) {
    TensorCut cut;
    cut.dimension = dimension;
    cut.rank = ranks_.rank;
    const Dimension& whole = parameter.spec().dimensions[dimension];
    for (int rank = 0; rank < ranks_.size; ++rank) {
      std::vector<IndexRun>& runs = cut.of_ranks.emplace_back();
      if (!even) {
        runs.push_back(balanced_run(whole.size(), rank, ranks_.size));
        continue;
      }
      std::int64_t begin = 0;
      for (const AxisSegment& segment : whole.segments) {
        const std::int64_t units = segment.size / segment.unit;
        // Fewer heads than ranks: neighbours have the same one.
        const int copies = units < ranks_.size
                               ? ranks_.size / static_cast<int>(std::max<std::int64_t>(1, units))
                               : 1;
        const std::int64_t count = std::max<std::int64_t>(1, units / ranks_.size) * segment.unit;
        runs.push_back({begin + count * (rank / copies), count});
        cut.copies = copies;
        begin += segment.size;
      }
    }
    plan_.cuts.emplace(&parameter, std::move(cut));
  }

  /// A copy that an adapter trains is computed with in place of a parameter of the model.
  void find_stand_ins() {
    const ModelParts& parts = model_.parts();
    const auto find = [&](const std::shared_ptr<Parameter>& base,
                          const std::vector<std::shared_ptr<Parameter>>& candidates) {
      for (const auto& candidate : candidates) {
        if (candidate != base && candidate->spec().shape() == base->spec().shape())
          plan_.stand_ins.emplace(candidate.get(), base.get());
      }
    };
    for (const nn::Linear* linear : parts.linears) {
      find(linear->weight(), linear->storage().components());
      if (linear->bias() != nullptr) find(linear->bias(), linear->storage().components());
    }
    for (const nn::Embedding* table : parts.embeddings)
      find(table->weight(), table->storage().components());
    for (const auto& parameter : parts.parameters) {
      for (const auto& added : parts.added_parameters)
        if (added->value().is_same(parameter->computed()))
          plan_.stand_ins.emplace(added.get(), parameter.get());
    }
  }

  void problem(const std::string& what, const std::string& found, const std::string& expected,
               const std::string& pattern, const std::string& hint) {
    problems_.add({ErrorCode::kBadInput, what, found, expected,
                   "distributed.tp_plan.\"" + pattern + "\"", hint});
  }

  Model& model_;
  SharingRanks ranks_;
  ProblemList& problems_;
  SharingPlan plan_;
  std::unordered_map<const Parameter*, std::string> block_of_;
  std::unordered_set<const Parameter*> whole_;  ///< whatever their axes
  std::set<std::string> shared_families_;
};

}  // namespace

nn::LinearSide side_of(SharingStyle style) {
  return style == SharingStyle::kOutputs || style == SharingStyle::kOutputsJoin
             ? nn::LinearSide::kOutputs
             : nn::LinearSide::kInputs;
}

std::int64_t TensorCut::count(int of_rank) const {
  std::int64_t sum = 0;
  for (const IndexRun& run : of_ranks[static_cast<std::size_t>(of_rank)]) sum += run.count;
  return sum;
}

const TensorCut* SharingPlan::cut(const Parameter& parameter) const {
  const auto found = cuts.find(&parameter);
  return found == cuts.end() ? nullptr : &found->second;
}

SharingPlan make_sharing_plan(Model& model, const SharingRanks& ranks,
                              const SharingPatterns& patterns, ProblemList& problems) {
  return PlanBuilder(model, ranks, problems).build(patterns);
}

}  // namespace espalier
