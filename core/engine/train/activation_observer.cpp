#include "engine/train/activation_observer.h"

#include <utility>

namespace espalier {
namespace {

class SeeingExtension final : public nn::LinearExtension {
 public:
  explicit SeeingExtension(ActivationObserver::See see) : see_(std::move(see)) {}

  at::Tensor apply(const nn::Linear& linear, const at::Tensor& input, at::Tensor output) override {
    see_(linear, input.detach(), output.detach());
    return output;
  }
  std::vector<std::shared_ptr<Parameter>> parameters() const override { return {}; }

 private:
  ActivationObserver::See see_;
};

}  // namespace

ActivationObserver::ActivationObserver(Model& model, See see)
    : extension_(std::make_shared<SeeingExtension>(std::move(see))) {
  for (nn::Linear* linear : model.parts().linears) {
    if (linear == &model.head().linear()) continue;
    linear->add_extension(extension_);
    linears_.push_back(linear);
  }
}

ActivationObserver::~ActivationObserver() {
  for (nn::Linear* linear : linears_) {
    const std::vector<std::shared_ptr<nn::LinearExtension>> all = linear->extensions();
    linear->clear_extensions();
    for (const auto& extension : all) {
      if (extension != extension_) linear->add_extension(extension);
    }
  }
}

}  // namespace espalier
