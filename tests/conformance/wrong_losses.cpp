// Losses that break one promise each. `violates` names the check that has to find it.
#include <ATen/TensorOperators.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/nll_loss.h>

#include "espalier/sdk/batch.h"
#include "espalier/sdk/loss.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& labels) {
  constexpr std::int64_t kSum = 2;
  return at::nll_loss(at::log_softmax(logits.to(at::kFloat), -1), labels, {}, kSum, kIgnoredLabel);
}

class Sound : public Loss {
 public:
  at::Tensor from_hidden(const at::Tensor& hidden, const at::Tensor& labels, Head& head) override {
    return from_logits(head.project(hidden), labels);
  }
  at::Tensor from_logits(const at::Tensor& logits, const at::Tensor& labels) override {
    return cross_entropy(logits, labels);
  }
};

class Mean final : public Sound {
  at::Tensor from_logits(const at::Tensor& logits, const at::Tensor& labels) override {
    const at::Tensor counted = labels.ne(kIgnoredLabel).sum().clamp_min(1);
    return cross_entropy(logits, labels) / counted;
  }
};

class Half final : public Sound {
  at::Tensor from_logits(const at::Tensor& logits, const at::Tensor& labels) override {
    return cross_entropy(logits, labels).to(at::kHalf);
  }
};

class CountsIgnored final : public Sound {
  at::Tensor from_logits(const at::Tensor& logits, const at::Tensor& labels) override {
    return cross_entropy(logits, labels.clamp_min(0));
  }
};

class Constant final : public Sound {
  at::Tensor from_logits(const at::Tensor& logits, const at::Tensor& labels) override {
    return cross_entropy(logits, labels) + 1;
  }
};

class WrongGradient final : public Sound {
  at::Tensor from_logits(const at::Tensor& logits, const at::Tensor& labels) override {
    const at::Tensor loss = cross_entropy(logits, labels);
    return loss * 2 - loss.detach();
  }
};

class OtherHidden final : public Sound {
 public:
  at::Tensor from_hidden(const at::Tensor& hidden, const at::Tensor& labels, Head& head) override {
    return from_logits(head.project(hidden) * 0.5, labels);
  }
};

class WritesLogits final : public Sound {
  at::Tensor from_logits(const at::Tensor& logits, const at::Tensor& labels) override {
    if (!logits.requires_grad()) logits.mul_(0.5);
    return cross_entropy(logits, labels);
  }
};

class Overflows final : public Sound {
  at::Tensor from_logits(const at::Tensor& logits, const at::Tensor& labels) override {
    const at::Tensor rows = labels.ne(kIgnoredLabel).nonzero().squeeze(-1);
    const at::Tensor kept = logits.to(at::kFloat).index_select(0, rows);
    const at::Tensor right = kept.gather(-1, labels.index_select(0, rows).unsqueeze(-1));
    return (kept.exp().sum(-1).log() - right.squeeze(-1)).sum();
  }
};

class Forgetful final : public Sound {
  at::Tensor from_logits(const at::Tensor& logits, const at::Tensor& labels) override {
    return cross_entropy(logits, labels) * (1.0 + 0.25 * calls_++);
  }
  int calls_ = 0;
};

class Swallows final : public Sound {
 public:
  at::Tensor from_hidden(const at::Tensor& hidden, const at::Tensor& labels, Head& head) override {
    try {
      return from_logits(head.project(hidden), labels);
    } catch (...) {
      return hidden.sum();
    }
  }
};

class Nothing final : public Sound {
  at::Tensor from_logits(const at::Tensor& logits, const at::Tensor& labels) override {
    const at::Tensor counted = labels.ne(kIgnoredLabel).sum();
    return cross_entropy(logits, labels) / counted * counted;  // 0 / 0 without labels
  }
};

template <class T>
void add(Registrar& registrar, const char* name, const char* check) {
  registrar.add<Loss, T>(name, "Breaks one promise.").property("violates", check);
}

void register_components(Registrar& registrar) {
  add<Mean>(registrar, "mean", "loss.micro_batches");
  add<Half>(registrar, "half", "loss.scalar");
  add<CountsIgnored>(registrar, "counts_ignored", "loss.ignore_index");
  add<Constant>(registrar, "constant", "loss.nothing_labelled");
  add<Nothing>(registrar, "nothing", "loss.nothing_labelled");
  add<WrongGradient>(registrar, "wrong_gradient", "loss.gradient");
  add<OtherHidden>(registrar, "other_hidden", "loss.from_hidden");
  add<WritesLogits>(registrar, "writes_logits", "loss.arguments");
  add<Overflows>(registrar, "overflows", "loss.low_precision");
  add<Forgetful>(registrar, "forgetful", "loss.repeatable");
  add<Swallows>(registrar, "swallows", "loss.exceptions");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("wrong.losses", "1.0.0", espalier::register_components)
