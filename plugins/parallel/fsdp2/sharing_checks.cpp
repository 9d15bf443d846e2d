#include "sharing_checks.h"

#include <algorithm>
#include <unordered_set>

#include "espalier/nn/embedding.h"
#include "espalier/nn/expert_linear.h"

namespace espalier {
namespace {

void refuse(ProblemList& problems, const std::string& what, const std::string& found,
            const char* key, const std::string& hint) {
  problems.add({ErrorCode::kUnsupported, what, found, {}, std::string("distributed.") + key, hint});
}

bool is_head_axis(const std::string& axis) { return axis == "heads" || axis == "kv_heads"; }

/// A norm over all heads needs those of the other ranks.
bool spans_heads(const ParameterSpec& spec) {
  for (const Dimension& dimension : spec.dimensions) {
    for (const AxisSegment& segment : dimension.segments) {
      if ((is_head_axis(segment.axis) && segment.unit > 1) || segment.axis == "mlp") return true;
    }
  }
  return false;
}

std::unordered_set<const Parameter*> parameters_of_linears(ModelParts& parts) {
  std::unordered_set<const Parameter*> own;
  for (const nn::Linear* linear : parts.linears) {
    own.insert(linear->weight().get());
    if (linear->bias() != nullptr) own.insert(linear->bias().get());
  }
  for (const nn::ExpertLinear* experts : parts.expert_linears) {
    own.insert(experts->weight().get());
    if (experts->bias() != nullptr) own.insert(experts->bias().get());
  }
  return own;
}

/// Why `size` ranks can't share an axis; empty: they can.
std::string uneven(const AxisSegment& segment, const Dimension& dimension, std::int64_t head_dim,
                   int size) {
  const std::int64_t count = segment.size / segment.unit;
  if (count % size == 0) return {};
  const bool alone = dimension.segments.size() == 1 && segment.unit <= head_dim;
  if (segment.axis == "kv_heads" && alone && size % count == 0) return {};  // in copies
  return std::to_string(count) + " over " + std::to_string(size);
}

}  // namespace

void check_shared_models(Model& model, const SharingRanks& ranks, bool shares_layers,
                         ProblemList& problems) {
  const std::string reason = model.shape().undivided;
  if (!reason.empty() && shares_layers)
    refuse(problems, "ranks can't share the layers of this model", reason, "tp_size",
           "leave tp_size out, or the layers whole: tp_plan = { \"*.layers.*\" = \"replicated\" }");
  if (ranks.sequence_parallel && !model.parts().expert_linears.empty())
    refuse(problems, "a router has to see all tokens of a batch", "sequence_parallel = true",
           "sequence_parallel", "leave it out");
}

void check_sizes(Model& model, const SharingRanks& ranks, const SharingPlan& plan,
                 const std::set<std::string>& families, ProblemList& problems) {
  const auto linear = parameters_of_linears(model.parts());
  const std::int64_t head_dim = model.shape().head_dim;
  std::set<std::pair<std::string, std::string>> reported;
  bool norm_reported = false;
  for (const auto& parameter : model.parts().parameters) {
    const ParameterSpec& spec = parameter->spec();
    const bool of_experts =
        std::any_of(model.parts().expert_linears.begin(), model.parts().expert_linears.end(),
                    [&](const nn::ExpertLinear* each) {
                      return each->weight() == parameter || each->bias() == parameter;
                    });
    if (of_experts) continue;
    if (!linear.contains(parameter.get()) && spans_heads(spec) && families.contains("heads") &&
        !norm_reported) {
      norm_reported = true;
      refuse(problems, "a norm spans the heads of all ranks", spec.name, "tp_size",
             "leave tp_size out");
    }
    for (const Dimension& dimension : spec.dimensions) {
      for (const AxisSegment& segment : dimension.segments) {
        const bool shared = (is_head_axis(segment.axis) && families.contains("heads")) ||
                            (segment.axis == "mlp" && families.contains("mlp"));
        if (!shared) continue;
        const std::string found = uneven(segment, dimension, head_dim, ranks.size);
        if (found.empty() || !reported.emplace(segment.axis, found).second) continue;
        refuse(problems, "tp_size does not divide the axis '" + segment.axis + "' of the model",
               found, "tp_size",
               "choose a divisor of " + std::to_string(segment.size / segment.unit));
      }
    }
  }
  for (const nn::Embedding* table : plan.tables) {
    const std::int64_t rows = table->weight()->spec().dimensions[0].size();
    if (rows < ranks.size)
      refuse(problems, "there are fewer tokens than ranks",
             std::to_string(rows) + " over " + std::to_string(ranks.size), "tp_size",
             "take fewer ranks");
  }
}

void check_adapters(Model& model, const SharingPlan& plan, ProblemList& problems) {
  std::unordered_set<const Parameter*> known;
  for (const auto& [copy, base] : plan.stand_ins) known.insert(copy);
  const auto note = [&](const auto& extensions) {
    for (const auto& extension : extensions)
      for (const auto& parameter : extension->parameters()) known.insert(parameter.get());
  };
  ModelParts& parts = model.parts();
  for (const nn::ExpertLinear* experts : parts.expert_linears) note(experts->extensions());
  for (const nn::Embedding* table : parts.embeddings) note(table->extensions());
  std::set<std::string> reasons;
  for (const SharingPlan::Entry& entry : plan.linears) {
    note(entry.linear->extensions());
    if (entry.style == SharingStyle::kWhole) continue;
    for (const auto& extension : entry.linear->extensions()) {
      const std::string reason = extension->undivided(side_of(entry.style));
      if (!reason.empty() && reasons.insert(reason).second)
        refuse(problems, "ranks can't share a layer with this adapter: " + reason,
               entry.linear->name(), "tp_size",
               "leave tp_size out: the base model is sharded over all ranks all the same");
    }
  }
  for (const auto& parameter : parts.added_parameters) {
    if (known.contains(parameter.get())) continue;
    refuse(problems, "the adapter works inside of attention, whose heads ranks would share",
           parameter->name(), "tp_size",
           "leave tp_size out: the base model is sharded over all ranks all the same");
    break;
  }
}

}  // namespace espalier
