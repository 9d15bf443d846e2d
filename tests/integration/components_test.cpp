// Components, loaded from their plugins as a run loads them, held against the reference cases.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/exp2.h>
#include <gtest/gtest.h>

#include <map>

#include "espalier/base/checkpoint_reader.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/io/parameter_io.h"
#include "espalier/io/tensor_io.h"
#include "espalier/sdk/loss.h"
#include "espalier/sdk/lr_scheduler.h"
#include "espalier/sdk/model.h"
#include "fixture_path.h"
#include "plugin/catalog.h"
#include "plugin/dependencies.h"
#include "plugin/plugin_host.h"
#include "support/temporary_folder.h"

namespace espalier {
namespace {

using testing::fixture_path;

/// The plugins of this build. Loaded once: nothing is ever unloaded.
struct Plugins {
  plugin::Catalog catalog;
  plugin::PluginHost host;

  Plugins() : catalog(scan()) { host.load(plugin::load_order(catalog, catalog.plugins())); }

  static plugin::Catalog scan() {
    plugin::CatalogOptions options;
    options.folders = {testing::environment("ESPALIER_TEST_BUILD") + "/../lib/plugins"};
    options.environment = false;
    options.installation = false;
    return plugin::Catalog::scan(options);
  }
  template <class I>
  std::shared_ptr<I> create(const std::string& name, const Value& config = Table()) {
    return host.create<I>(catalog.component(I::kInterface.name, name), config);
  }
};

Plugins& plugins() {
  static Plugins instance;
  return instance;
}

double number(const Value& table, const char* key, double otherwise) {
  const Value* value = table.find(key);
  return value == nullptr ? otherwise : value->as_float();
}

// --- learning rates ---

/// The component of a schedule of the fixtures, and its config, which says the same in the words of
/// the program that the schedule is from.
std::pair<std::string, Table> schedule_of(const Value& entry) {
  static const std::map<std::string, std::string> kKeys = {
      {"warmup", "warmup_steps"},
      {"constant", "constant_steps"},
      {"min_lr", "min_lr"},
      {"max_steps", "max_steps"},
      {"hold_steps", "hold_steps"},
      {"power", "power"},
      {"decay_rate", "decay_rate"},
      {"d_model", "d_model"},
      {"megatron.style", "lr_decay_style"},
      {"megatron.warmup", "lr_warmup_steps"},
      {"megatron.decay", "lr_decay_steps"},
      {"megatron.init_lr", "init_lr"},
      {"megatron.min_lr", "min_lr"},
      {"megatron.wsd_decay", "wsd_decay_steps"},
      {"megatron.wsd_style", "lr_wsd_decay_style"}};
  std::string name = entry.find("kind")->as_string();
  const bool megatron = name.starts_with("megatron.");
  Table config;
  for (const auto& [key, value] : entry.find("args")->as_table()) {
    if (key == "specific") {
      for (const auto& [inner, setting] : value.as_table()) config.set(inner, setting);
    } else if (const auto known = kKeys.find((megatron ? "megatron." : "") + key);
               known != kKeys.end()) {
      config.set(known->second, value == Value("wsd") ? Value("WSD") : value);
    } else {
      EXPECT_TRUE(key == "base" || key == "total") << key;
    }
  }
  if (name == "constant_with_warmup") name = "constant";
  if (name == "cosine_with_min_lr") name = "cosine";
  if (name == "megatron.OptimizerParamScheduler") {
    name = "megatron";
    if (!config.contains("lr_wsd_decay_style")) config.set("lr_wsd_decay_style", "linear");
  }
  if (name.starts_with("nemo.")) name = name.substr(5);
  return {name, config};
}

TEST(Schedules, FollowTheirOriginalsAtEveryStep) {
  int checked = 0;
  const Value entries = read_json_file(fixture_path("training/schedules.json"));
  for (const Value& entry : entries.as_array()) {
    ++checked;
    const auto [name, config] = schedule_of(entry);
    const auto schedule = plugins().create<LrScheduler>(name, config);
    const Value& arguments = *entry.find("args");
    const double base = number(arguments, "base", 0);
    const Value* total = arguments.find("total");
    const Array& expected = entry.find("lr")->as_array();
    for (std::size_t step = 0; step < expected.size(); ++step) {
      const double want = expected[step].as_float();
      ASSERT_NEAR(schedule->lr(static_cast<std::int64_t>(step), base,
                               total == nullptr ? 1000 : total->as_int()),
                  want, 1e-7 * std::abs(want))
          << entry.find("name")->as_string() << " at step " << step;
    }
  }
  EXPECT_GE(checked, 40);
}

TEST(Schedules, WhatIsLeftOutMayBeAsInAutomodel) {
  Table config;
  config.set("lr_decay_style", "cosine");
  config.set("automodel_defaults", true);
  const auto schedule = plugins().create<LrScheduler>("megatron", config);
  // Warm-up of a tenth of the steps from a tenth of the rate, then down to a hundredth.
  EXPECT_NEAR(schedule->lr(0, 2.0, 100), 0.2, 1e-12);
  EXPECT_NEAR(schedule->lr(5, 2.0, 100), 1.1, 1e-12);
  EXPECT_NEAR(schedule->lr(10, 2.0, 100), 2.0, 1e-12);
  EXPECT_NEAR(schedule->lr(55, 2.0, 100), 1.01, 1e-12);
  EXPECT_NEAR(schedule->lr(100, 2.0, 100), 0.02, 1e-12);
  EXPECT_NEAR(schedule->lr(1000, 2.0, 100000), 2.0, 1e-12);
  config.set("min_lr", 0.5);
  EXPECT_NEAR(plugins().create<LrScheduler>("megatron", config)->lr(100, 2.0, 100), 0.5, 1e-12);
}

TEST(Schedules, RefuseAFallThatEndsBeforeItBegins) {
  Table config;
  config.set("max_steps", 10);
  config.set("warmup_steps", 10);
  EXPECT_THROW(plugins().create<LrScheduler>("SquareAnnealing", config), Error);
  Table megatron;
  megatron.set("lr_decay_style", "WSD");
  EXPECT_THROW(plugins().create<LrScheduler>("megatron", megatron), Error);
}

// --- cross entropy ---

/// One unit in the last place of the dtype at the magnitude of each value.
at::Tensor unit_in_last_place(const at::Tensor& values) {
  const int digits = values.scalar_type() == at::kBFloat16 ? 7 : 10;
  const double smallest = values.scalar_type() == at::kBFloat16 ? -126 : -14;
  const at::Tensor exponent =
      values.to(at::kDouble).abs().clamp_min(1e-300).log2().floor().clamp_min(smallest);
  return at::exp2(exponent - digits);
}

void check_cross_entropy(const Value& entry) {
  const std::string name = entry.find("name")->as_string();
  SCOPED_TRACE(name);
  const Value& parameters = *entry.find("parameters");
  auto tensors = read_tensors(fixture_path("losses/" + name + ".safetensors"));
  Table config;
  for (const char* key : {"label_smoothing", "z_loss", "soft_cap"}) {
    if (const Value* value = parameters.find(key)) config.set(key, *value);
  }
  at::Tensor labels = tensors.at("labels").flatten();
  if (tensors.contains("mask"))
    labels = labels.masked_fill(tensors.at("mask").flatten().eq(0), -100);
  const at::Tensor logits = tensors.at("logits").clone().requires_grad_(true);
  const at::Tensor sum = plugins()
                             .create<Loss>("masked_cross_entropy", config)
                             ->from_logits(logits.flatten(0, -2), labels);
  double divisor = number(parameters, "num_label_tokens", 1.0);
  const Value* reduction = parameters.find("reduction");
  if (reduction != nullptr && reduction->as_string() == "mean")
    divisor = labels.ne(-100).sum().item<double>();
  const at::Tensor loss = sum / std::max(divisor, 1.0);
  loss.backward();

  const double want = tensors.at("loss").item<double>();
  EXPECT_NEAR(loss.item<double>(), want, 1e-5 * std::abs(want));
  const at::Tensor& want_gradient = tensors.at("grad_logits");
  ASSERT_EQ(logits.grad().scalar_type(), want_gradient.scalar_type());
  const at::Tensor difference =
      (logits.grad().to(at::kDouble) - want_gradient.to(at::kDouble)).abs();
  if (want_gradient.scalar_type() == at::kFloat) {
    EXPECT_LE(difference.max().item<double>(), name == "ce_all_ignored" ? 0.0 : 1e-6);
  } else {
    EXPECT_TRUE(difference.le(unit_in_last_place(want_gradient)).all().item<bool>());
  }
}

TEST(MaskedCrossEntropy, AgreesWithTheReferenceInEveryCase) {
  int checked = 0;
  const Value document = read_json_file(fixture_path("losses/cases.json"));
  for (const Value& entry : document.find("cases")->as_array()) {
    if (!entry.find("name")->as_string().starts_with("ce_")) continue;
    ++checked;
    check_cross_entropy(entry);
  }
  EXPECT_GE(checked, 11);
}

// --- partial reading ---

/// Half of the heads of each head segment, everything of the other dimensions; empty when nothing
/// is cut.
ParameterSlice half_of_the_heads(const ParameterSpec& spec) {
  ParameterSlice slice;
  bool cut = false;
  for (const Dimension& dimension : spec.dimensions) {
    std::vector<DimensionRange> ranges;
    std::int64_t begin = 0;
    for (const AxisSegment& segment : dimension.segments) {
      const bool heads = segment.axis == "heads" || segment.axis == "kv_heads";
      const std::int64_t size =
          heads ? segment.size / segment.unit / 2 * segment.unit : segment.size;
      cut |= heads;
      ranges.push_back({begin, begin + size});
      begin += segment.size;
    }
    slice.push_back(std::move(ranges));
  }
  return cut ? slice : ParameterSlice();
}

at::Tensor cut(const at::Tensor& whole, const ParameterSlice& slice) {
  at::Tensor tensor = whole;
  for (std::size_t d = 0; d < slice.size(); ++d) {
    std::vector<at::Tensor> pieces;
    for (const DimensionRange& range : slice[d]) {
      pieces.push_back(tensor.slice(static_cast<std::int64_t>(d), range.begin, range.end));
    }
    tensor = at::cat(pieces, static_cast<std::int64_t>(d));
  }
  return tensor;
}

TEST(PartialReading, HalfOfTheHeadsOfAFusedProjectionTakesHalfOfTheBytes) {
  const std::string folder = fixture_path("models/gpt2");
  const auto model =
      plugins().create<ModelProvider>("gpt2")->build(read_json_file(folder + "/config.json"));
  const ModelParts& parts = model->parts();
  int fused = 0;
  for (std::size_t i = 0; i < parts.parameters.size(); ++i) {
    const ParameterSpec& spec = parts.parameters[i]->spec();
    if (spec.name.find("c_attn") == std::string::npos) continue;
    ++fused;
    const ParameterSlice slice = half_of_the_heads(spec);
    ASSERT_FALSE(slice.empty()) << spec.name;
    const CheckpointReader whole_file(folder);
    const at::Tensor whole = load_parameter(whole_file, spec, parts.mappings[i], at::kFloat);
    const CheckpointReader file(folder);
    const at::Tensor part = load_parameter(file, spec, parts.mappings[i], at::kFloat, slice);
    EXPECT_TRUE(part.equal(cut(whole, slice))) << spec.name;
    EXPECT_EQ(part.numel() * 2, whole.numel()) << spec.name;
    EXPECT_LE(static_cast<double>(file.bytes_requested()),
              0.55 * static_cast<double>(whole_file.bytes_requested()))
        << spec.name;
  }
  EXPECT_GT(fused, 0);
}

}  // namespace
}  // namespace espalier
