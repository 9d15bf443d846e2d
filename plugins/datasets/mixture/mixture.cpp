// Several datasets as one, in chosen proportions.
#include <algorithm>
#include <mutex>
#include <numeric>

#include "espalier/base/error.h"
#include "espalier/base/random.h"
#include "espalier/sdk/dataset.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

struct MixtureConfig {
  std::vector<ComponentConfig> datasets;
  std::vector<double> weights;
  std::string stop = "first_exhausted";

  static ConfigSchema<MixtureConfig> schema() {
    return ConfigSchema<MixtureConfig>()
        .field("datasets", &MixtureConfig::datasets, "the datasets: {type = ..., ...}")
        .component("Dataset")
        .required()
        .field("weights", &MixtureConfig::weights,
               "how many samples come from each, relative to each other; left out: every sample "
               "once")
        .more_than(0)
        .field("stop", &MixtureConfig::stop,
               "with weights, an epoch ends when the first dataset is used up, or when all were "
               "used up, those that are so earlier being repeated in another order")
        .one_of({"first_exhausted", "all_exhausted"});
  }
};

/// Sample i comes from the dataset that is furthest behind its share, as in Megatron's blends: the
/// proportions hold from the first sample on, and which sample i is depends on nothing but i. With
/// a stream among the datasets there is no end, and the others are repeated.
class Mixture final : public Dataset {
 public:
  using Config = MixtureConfig;
  explicit Mixture(Config config) : config_(std::move(config)) {}

  void open(const DatasetContext& context) override {
    if (config_.datasets.empty()) refuse("'datasets' is empty", "no dataset", "at least one");
    if (!config_.weights.empty() && config_.weights.size() != config_.datasets.size()) {
      refuse("the number of weights is not that of the datasets",
             std::to_string(config_.weights.size()) + " weights",
             std::to_string(config_.datasets.size()) + ", one for each dataset");
    }
    if (!context.open_part) {
      throw Error(Problem{ErrorCode::kUnsupported,
                          "a mixture needs a host that opens datasets inside datasets",
                          {},
                          "DatasetContext::open_part",
                          {},
                          {}});
    }
    seed_ = context.seed;
    for (std::size_t i = 0; i < config_.datasets.size(); ++i)
      parts_.push_back({context.open_part("datasets[" + std::to_string(i) + "]")});
    endless_ = std::any_of(parts_.begin(), parts_.end(),
                           [](const Part& part) { return part.dataset->size() == kEndless; });
    choose_shares();
    if (!endless_) {
      while (draw()) {
      }
    }
  }

  std::int64_t size() const override {
    return endless_ ? kEndless : static_cast<std::int64_t>(drawn_.size());
  }
  bool keeps_order() const override { return endless_; }

  Sample get(std::int64_t index) const override {
    ESPALIER_ASSERT(index >= 0 && index < size(), "the dataset has no such sample");
    Draw chosen;
    {
      const std::lock_guard lock(mutex_);
      while (static_cast<std::int64_t>(drawn_.size()) <= index) draw();
      chosen = drawn_[static_cast<std::size_t>(index)];
    }
    const Part& part = parts_[static_cast<std::size_t>(chosen.part)];
    return part.dataset->get(place_of(part, chosen));
  }

 private:
  struct Part {
    std::shared_ptr<const Dataset> dataset;
    double share = 0;
    std::int64_t taken = 0;
    /// By pass over the dataset, from the second on.
    std::vector<std::vector<std::int64_t>> orders = {};
  };
  struct Draw {
    std::int32_t part = 0;
    std::int64_t number = 0;  ///< of the part's samples, counted through its repetitions
  };

  [[noreturn]] static void refuse(const std::string& what, const std::string& found,
                                  const std::string& expected) {
    throw_bad_input(what, found, expected, "the dataset's section of the recipe");
  }

  void choose_shares() {
    double total = 0;
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      const std::int64_t size = parts_[i].dataset->size();
      if (config_.weights.empty() && endless_)
        refuse("a mixture with a stream needs weights", "no weights", "one weight for each");
      parts_[i].share = config_.weights.empty() ? static_cast<double>(size) : config_.weights[i];
      total += parts_[i].share;
    }
    for (Part& part : parts_) part.share /= total;
  }

  bool is_used_up(const Part& part) const { return part.taken >= part.dataset->size(); }

  bool at_end() const {
    if (endless_) return false;
    const auto used_up = [this](const Part& part) { return is_used_up(part); };
    return std::all_of(parts_.begin(), parts_.end(), used_up);
  }

  /// Decides where the next sample comes from; false at the end of the epoch.
  bool draw() const {
    if (at_end()) return false;
    const double drawn = std::max(static_cast<double>(drawn_.size()), 1.0);
    std::size_t chosen = parts_.size();
    double furthest = 0;
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      if (config_.weights.empty() && is_used_up(parts_[i])) continue;
      const double behind = parts_[i].share * drawn - static_cast<double>(parts_[i].taken);
      if (chosen == parts_.size() || behind > furthest) {
        chosen = i;
        furthest = behind;
      }
    }
    Part& part = parts_[chosen];
    if (!endless_ && is_used_up(part) && config_.stop == "first_exhausted") return false;
    const std::int64_t size = part.dataset->size();
    if (const auto pass = static_cast<std::size_t>(part.taken / size);
        pass > part.orders.size() && size != kEndless)
      part.orders.push_back(shuffled_order(size, seed_, static_cast<std::int64_t>(pass)));
    drawn_.push_back({static_cast<std::int32_t>(chosen), part.taken++});
    return true;
  }

  std::int64_t place_of(const Part& part, const Draw& chosen) const {
    const std::int64_t size = part.dataset->size();
    if (chosen.number < size) return chosen.number;
    const std::lock_guard lock(mutex_);  // an endless mixture adds orders meanwhile
    const auto pass = static_cast<std::size_t>(chosen.number / size);
    return part.orders[pass - 1][static_cast<std::size_t>(chosen.number % size)];
  }

  MixtureConfig config_;
  std::uint64_t seed_ = 0;
  bool endless_ = false;
  mutable std::mutex mutex_;
  mutable std::vector<Part> parts_;
  mutable std::vector<Draw> drawn_;
};

void register_components(Registrar& registrar) {
  registrar.add<Dataset, Mixture>("mixture", "several datasets as one, in chosen proportions");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.mixture", "0.1.0", espalier::register_components)
