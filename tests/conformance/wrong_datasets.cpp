// Datasets that break one promise each. `violates` names the check that has to find it.
#include <atomic>
#include <thread>

#include "espalier/base/error.h"
#include "espalier/sdk/dataset.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

class Sound : public Dataset {
 public:
  void open(const DatasetContext& context) override {
    tokenizer_ = context.tokenizer;
    if (!tokenizer_) throw_bad_input("the model has no tokenizer", {}, "tokenizer.json", {});
  }
  std::int64_t size() const override { return 5; }
  Sample get(std::int64_t index) const override {
    ESPALIER_ASSERT(index >= 0 && index < size(), "there is no such sample");
    Sample sample;
    for (const std::int32_t id : tokenizer_->encode("sample " + std::to_string(index), true))
      sample.input_ids.push_back(id);
    sample.labels = sample.input_ids;
    return sample;
  }

 protected:
  std::shared_ptr<const Tokenizer> tokenizer_;
};

class ShortLabels final : public Sound {
  Sample get(std::int64_t index) const override {
    Sample sample = Sound::get(index);
    sample.labels.pop_back();
    return sample;
  }
};

class ShiftedLabels final : public Sound {
  Sample get(std::int64_t index) const override {
    Sample sample = Sound::get(index);
    sample.labels.erase(sample.labels.begin());
    sample.labels.push_back(-100);
    return sample;
  }
};

class NothingToLearn final : public Sound {
  Sample get(std::int64_t index) const override {
    Sample sample = Sound::get(index);
    sample.labels.assign(sample.labels.size(), -100);
    return sample;
  }
};

class InOrderOnly final : public Sound {
  Sample get(std::int64_t) const override { return Sound::get(next_++ % size()); }
  mutable std::atomic<std::int64_t> next_ = 0;
};

class SharedBuffer final : public Sound {
  Sample get(std::int64_t index) const override {
    index_ = index;
    std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    return Sound::get(index_);
  }
  mutable std::atomic<std::int64_t> index_ = 0;
};

class NoTokenizer final : public Sound {
  void open(const DatasetContext& context) override {
    tokenizer_ = context.tokenizer;
    (void)context.tokenizer->vocab_size();  // a null pointer where the model has none
  }
};

class Swallows final : public Sound {
  Sample get(std::int64_t index) const override {
    try {
      return Sound::get(index);
    } catch (const std::exception&) {
      return {{1}, {1}};
    }
  }
};

template <class T>
void add(Registrar& registrar, const char* name, const char* check) {
  registrar.add<Dataset, T>(name, "Breaks one promise.").property("violates", check);
}

void register_components(Registrar& registrar) {
  add<ShortLabels>(registrar, "short_labels", "dataset.samples");
  add<ShiftedLabels>(registrar, "shifted_labels", "dataset.samples");
  add<NothingToLearn>(registrar, "nothing_to_learn", "dataset.samples");
  add<InOrderOnly>(registrar, "in_order_only", "dataset.repeatable");
  add<SharedBuffer>(registrar, "shared_buffer", "dataset.threads");
  add<NoTokenizer>(registrar, "no_tokenizer", "dataset.no_tokenizer");
  add<Swallows>(registrar, "swallows", "dataset.exceptions");
  add<Swallows>(registrar, "any_index", "dataset.range");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("wrong.datasets", "1.0.0", espalier::register_components)
