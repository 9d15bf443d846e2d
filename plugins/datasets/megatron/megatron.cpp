// Pre-training data in Megatron's files, with the samples and the order that Megatron-LM gives
// them.
#include <cmath>

#include "blend.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/sdk/batch.h"
#include "espalier/sdk/dataset.h"
#include "espalier/sdk/plugin.h"
#include "indexed_tokens.h"
#include "sample_order.h"

namespace espalier::megatron {
namespace {

/// Of the samples that a blend plans to draw, so many more are prepared (Megatron-LM's
/// mid_level_dataset_surplus).
constexpr double kSurplus = 0.005;

struct MegatronConfig {
  std::vector<std::string> paths;
  std::int64_t seq_length = 2048;
  std::string split = "900,50,50";
  std::string part = "train";
  std::optional<std::int64_t> num_samples;
  std::int64_t seed = 1234;
  std::optional<std::int64_t> eod_token;
  bool reset_attention_mask = false;
  bool eod_mask_loss = false;

  static ConfigSchema<MegatronConfig> schema() {
    return ConfigSchema<MegatronConfig>()
        .field("paths", &MegatronConfig::paths,
               "prefix of a .bin and an .idx file, pattern, or a list: of prefixes, or of weights "
               "and prefixes in turn")
        .or_single()
        .required()
        .field("seq_length", &MegatronConfig::seq_length,
               "tokens of a sample; one more is read as label")
        .at_least(1)
        .field("split", &MegatronConfig::split, "shares of train, validation and test")
        .field("part", &MegatronConfig::part, "which of them this dataset is")
        .one_of({"train", "validation", "test"})
        .field("num_samples", &MegatronConfig::num_samples,
               "samples to draw, through as many epochs as it takes; left out: one epoch")
        .at_least(1)
        .field("seed", &MegatronConfig::seed, "of the order of documents and samples")
        .at_least(0)
        .at_most(4294967295.0)
        .field("eod_token", &MegatronConfig::eod_token,
               "the id that ends documents, for the next two keys; left out: the tokenizer's")
        .at_least(0)
        .field("reset_attention_mask", &MegatronConfig::reset_attention_mask,
               "documents of a sample don't see each other, and positions begin anew in each")
        .field("eod_mask_loss", &MegatronConfig::eod_mask_loss,
               "what follows the end of a document is not learnt");
  }
};

/// Samples of one pair of files.
class DocumentSamples {
 public:
  DocumentSamples(const std::string& prefix, const MegatronConfig& config,
                  std::optional<std::int64_t> num_samples)
      : tokens_(prefix) {
    const int part = config.part == "train" ? 0 : config.part == "validation" ? 1 : 2;
    const auto chosen =
        split_range(config.split, part, static_cast<std::int64_t>(tokens_.lengths().size()));
    if (chosen.first >= chosen.second) {
      throw_bad_input("the split leaves no documents for " + config.part,
                      "split = \"" + config.split + "\" of " +
                          std::to_string(tokens_.lengths().size()) + " documents",
                      "at least one document", tokens_.path());
    }
    order_ = order_samples(tokens_.lengths(), chosen, num_samples, config.seq_length,
                           static_cast<std::uint32_t>(config.seed));
    size_ = static_cast<std::int64_t>(order_.shuffle.size());
    if (num_samples) size_ = std::min(size_, *num_samples);
  }

  std::int64_t size() const { return size_; }

  std::vector<std::int64_t> read(std::int64_t number) const {
    const auto sample = static_cast<std::size_t>(order_.shuffle[static_cast<std::size_t>(number)]);
    const auto [first, from] = order_.starts[sample];
    const auto [last, to] = order_.starts[sample + 1];
    std::vector<std::int64_t> tokens;
    for (std::int64_t i = first; i <= last; ++i) {
      const std::int32_t document = order_.documents[static_cast<std::size_t>(i)];
      const std::int64_t begin = i == first ? from : 0;
      const std::int64_t end =
          i == last ? to + 1 : tokens_.lengths()[static_cast<std::size_t>(document)];
      tokens_.read(document, begin, end - begin, tokens);
    }
    return tokens;
  }

 private:
  IndexedTokens tokens_;
  SampleOrder order_;
  std::int64_t size_ = 0;
};

class Megatron final : public Dataset {
 public:
  using Config = MegatronConfig;
  explicit Megatron(Config config) : config_(std::move(config)) {}

  void open(const DatasetContext& context) override {
    eod_ = config_.eod_token.value_or(context.tokenizer ? context.tokenizer->eos_id() : -1);
    if (eod_ < 0 && (config_.reset_attention_mask || config_.eod_mask_loss)) {
      throw_bad_input("reset_attention_mask and eod_mask_loss need the id that ends documents", {},
                      "eod_token = ...", "the dataset's section of the recipe");
    }
    const Blend blend = read_blend(config_.paths);
    if (blend.weights && !config_.num_samples) {
      throw_bad_input("a blend with weights has no length of its own", {}, "num_samples = ...",
                      "the dataset's section of the recipe",
                      "steps times global_batch_size, or leave the weights out");
    }
    for (std::size_t i = 0; i < blend.prefixes.size(); ++i)
      parts_.emplace_back(blend.prefixes[i], config_, planned(blend, i, kSurplus));
    if (parts_.size() == 1) return;
    if (blend.weights) {
      std::int64_t size = 0;
      for (std::size_t i = 0; i < parts_.size(); ++i) size += *planned(blend, i, 0);
      entries_ = blend_by_weight(*blend.weights, size);
      return;
    }
    std::vector<std::int64_t> sizes;
    for (const DocumentSamples& part : parts_) sizes.push_back(part.size());
    if (config_.num_samples) {
      entries_ = blend_by_size(sizes);
    } else {
      entries_ = blend_all(sizes);
    }
  }

  std::int64_t size() const override {
    return static_cast<std::int64_t>(parts_.size() == 1 ? parts_[0].size() : entries_.size());
  }
  bool keeps_order() const override { return true; }

  Sample get(std::int64_t index) const override {
    ESPALIER_ASSERT(index >= 0 && index < size(), "the dataset has no such sample");
    BlendEntry entry = {0, index};
    if (parts_.size() > 1) entry = entries_[static_cast<std::size_t>(index)];
    const std::vector<std::int64_t> tokens =
        parts_[static_cast<std::size_t>(entry.dataset)].read(entry.sample);
    Sample sample;
    sample.labels_shifted = true;
    sample.input_ids.assign(tokens.begin(), tokens.end() - 1);
    sample.labels.assign(tokens.begin() + 1, tokens.end());
    mask_documents(sample);
    return sample;
  }

 private:
  /// Samples that a dataset has to have; nullopt: one epoch of it.
  std::optional<std::int64_t> planned(const Blend& blend, std::size_t i, double surplus) const {
    if (blend.prefixes.size() == 1) return config_.num_samples;
    if (!blend.weights) return std::nullopt;
    const double wanted =
        std::ceil(static_cast<double>(*config_.num_samples) * (*blend.weights)[i]);
    return static_cast<std::int64_t>(std::ceil(wanted * (1 + surplus)));
  }

  std::vector<BlendEntry> blend_by_size(const std::vector<std::int64_t>& sizes) const {
    std::int64_t total = 0;
    for (const std::int64_t size : sizes) total += size;
    std::vector<double> weights;
    weights.reserve(sizes.size());
    for (const std::int64_t size : sizes)
      weights.push_back(static_cast<double>(size) / static_cast<double>(total));
    return blend_by_weight(weights, std::min(*config_.num_samples, total));
  }

  void mask_documents(Sample& sample) const {
    if (config_.reset_attention_mask) sample.document_starts.push_back(0);
    for (std::size_t i = 0; i < sample.input_ids.size(); ++i) {
      if (sample.input_ids[i] != eod_) continue;
      if (config_.eod_mask_loss) sample.labels[i] = kIgnoredLabel;
      if (config_.reset_attention_mask && i + 1 < sample.input_ids.size())
        sample.document_starts.push_back(static_cast<std::int64_t>(i) + 1);
    }
  }

  MegatronConfig config_;
  std::int64_t eod_ = -1;
  std::vector<DocumentSamples> parts_;
  std::vector<BlendEntry> entries_;  ///< of more than one part
};

void register_components(Registrar& registrar) {
  registrar
      .add<Dataset, Megatron>("megatron", "pre-training data in Megatron's .bin and .idx files")
      .property(
          "recognises",
          parse_json(
              R"([{"endings": [".bin"], "beside": ".idx", "settings": {"paths": "{stem}", "seq_length": "{length}"}}])"))
      .alias("nemo_automodel.components.datasets.llm.megatron_dataset.MegatronPretraining",
             parse_json(R"({"splits_to_build": {"as": "part", "values": {"\"train\"": "train",
                                "\"validation\"": "validation", "\"test\"": "test"}},
                            "index_mapping_dir": {"note": "the index is built in memory"}})")
                 .as_table());
}

}  // namespace
}  // namespace espalier::megatron

ESPALIER_PLUGIN("espalier.megatron", "0.1.0", espalier::megatron::register_components)
