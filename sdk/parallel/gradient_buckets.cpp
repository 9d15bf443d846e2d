#include "espalier/parallel/gradient_buckets.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/variable.h>

#include "espalier/base/error.h"

namespace espalier::parallel {
namespace {

constexpr std::int64_t kBroadcastBytes = 32'000'000;

at::ScalarType sum_dtype(const at::Tensor& value) {
  return value.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

}  // namespace

/// Called by autograd when it has added a gradient to a leaf.
class GradientBuckets::Hook final : public torch::autograd::PostAccumulateGradHook {
 public:
  Hook(GradientBuckets& owner, std::size_t bucket, std::size_t member)
      : owner_(owner), bucket_(bucket), member_(member) {}
  void operator()(const at::Tensor&) override { owner_.gradient_arrived(bucket_, member_); }

 private:
  GradientBuckets& owner_;
  std::size_t bucket_;
  std::size_t member_;
};

GradientBuckets::GradientBuckets(const std::vector<std::shared_ptr<Parameter>>& parameters,
                                 std::shared_ptr<Communicator> communicator,
                                 std::int64_t bucket_bytes)
    : communicator_(std::move(communicator)) {
  fill(parameters, bucket_bytes);
  for (std::size_t b = 0; b < buckets_.size(); ++b) {
    for (std::size_t m = 0; m < buckets_[b].members.size(); ++m) {
      torch::autograd::impl::set_post_acc_grad_hooks(buckets_[b].members[m].parameter->value(),
                                                     std::make_unique<Hook>(*this, b, m));
    }
  }
}

GradientBuckets::~GradientBuckets() {
  for (const Bucket& bucket : buckets_) {
    for (const Member& member : bucket.members)
      torch::autograd::impl::set_post_acc_grad_hooks(member.parameter->value(), nullptr);
  }
}

void GradientBuckets::fill(const std::vector<std::shared_ptr<Parameter>>& parameters,
                           std::int64_t bucket_bytes) {
  std::int64_t bytes = 0;
  for (auto it = parameters.rbegin(); it != parameters.rend(); ++it) {
    const at::Tensor& value = (*it)->value();
    const std::int64_t size =
        value.numel() * static_cast<std::int64_t>(c10::elementSize(sum_dtype(value)));
    const bool joins =
        !buckets_.empty() && bytes + size <= bucket_bytes &&
        sum_dtype(buckets_.back().members.front().parameter->value()) == sum_dtype(value);
    if (!joins) {
      buckets_.emplace_back();
      bytes = 0;
    }
    std::vector<Member>& members = buckets_.back().members;
    const std::int64_t offset =
        members.empty() ? 0 : members.back().offset + members.back().parameter->value().numel();
    members.push_back({*it, offset, false});
    bytes += size;
  }
}

void GradientBuckets::begin_micro_batch(bool last) { armed_ = last; }

void GradientBuckets::copy_in(Bucket& bucket, std::size_t member) {
  const at::NoGradGuard no_grad;
  const at::Tensor& first = bucket.members.front().parameter->value();
  const Member& last = bucket.members.back();
  const std::int64_t flags = last.offset + last.parameter->value().numel();
  if (!bucket.flat.defined()) {
    bucket.flat = at::empty({flags + static_cast<std::int64_t>(bucket.members.size())},
                            first.options().dtype(sum_dtype(first)).requires_grad(false));
  }
  const Member& own = bucket.members[member];
  const at::Tensor& value = own.parameter->value();
  at::Tensor place = bucket.flat.narrow(0, own.offset, value.numel());
  const bool used = value.grad().defined();
  if (used)
    place.copy_(value.grad().reshape({-1}));
  else
    place.zero_();
  bucket.flat.narrow(0, flags + static_cast<std::int64_t>(member), 1).fill_(used ? 1.0 : 0.0);
}

void GradientBuckets::gradient_arrived(std::size_t bucket, std::size_t member) {
  if (!armed_) return;
  Bucket& own = buckets_[bucket];
  ESPALIER_ASSERT(own.work == nullptr, "a gradient arrived after its bucket was reduced");
  copy_in(own, member);
  if (!own.members[member].ready) {
    own.members[member].ready = true;
    ++own.ready;
  }
  launch_ready();
}

void GradientBuckets::launch_ready() {
  while (launched_ < buckets_.size() &&
         buckets_[launched_].ready == buckets_[launched_].members.size()) {
    Bucket& bucket = buckets_[launched_++];
    bucket.work = communicator_->all_reduce(bucket.flat, "gradients");
  }
}

void GradientBuckets::copy_out(Bucket& bucket) {
  const at::NoGradGuard no_grad;
  const Member& last = bucket.members.back();
  const std::int64_t flags_begin = last.offset + last.parameter->value().numel();
  const at::Tensor flags =
      bucket.flat.narrow(0, flags_begin, static_cast<std::int64_t>(bucket.members.size()))
          .to(at::kCPU, at::kFloat);
  for (std::size_t m = 0; m < bucket.members.size(); ++m) {
    const at::Tensor& value = bucket.members[m].parameter->value();
    at::Tensor& gradient = value.mutable_grad();
    if (flags.const_data_ptr<float>()[m] == 0) {
      gradient.reset();
      continue;
    }
    const at::Tensor sum =
        bucket.flat.narrow(0, bucket.members[m].offset, value.numel()).view(value.sizes());
    if (gradient.defined())
      gradient.copy_(sum);
    else
      gradient =
          sum.to(value.options().requires_grad(false), /*non_blocking=*/false, /*copy=*/true);
  }
}

void GradientBuckets::finish() {
  for (Bucket& bucket : buckets_) {
    for (std::size_t m = 0; m < bucket.members.size(); ++m) {
      if (bucket.members[m].ready) continue;
      copy_in(bucket, m);
      bucket.members[m].ready = true;
      ++bucket.ready;
    }
  }
  launch_ready();
  for (Bucket& bucket : buckets_) {
    bucket.work->wait();
    copy_out(bucket);
    bucket.work = nullptr;
    bucket.ready = 0;
    for (Member& member : bucket.members) member.ready = false;
  }
  launched_ = 0;
  armed_ = false;
}

void broadcast_values(const std::vector<at::Tensor>& values, Communicator& group) {
  if (group.size() == 1) return;
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> pending;
  std::int64_t bytes = 0;
  const auto send = [&] {
    if (pending.empty()) return;
    at::Tensor flat =
        at::empty({bytes}, pending.front().options().dtype(at::kByte).requires_grad(false));
    std::int64_t offset = 0;
    for (const at::Tensor& value : pending) {
      const auto size = static_cast<std::int64_t>(value.nbytes());
      flat.narrow(0, offset, size).copy_(value.detach().contiguous().view({-1}).view(at::kByte));
      offset += size;
    }
    group.broadcast(flat, 0, "initial values")->wait();
    offset = 0;
    for (const at::Tensor& value : pending) {
      const auto size = static_cast<std::int64_t>(value.nbytes());
      // A copy: the piece may begin at any byte, and a view in a wider dtype may not.
      value.detach().copy_(
          flat.narrow(0, offset, size).clone().view(value.scalar_type()).view(value.sizes()));
      offset += size;
    }
    pending.clear();
    bytes = 0;
  };
  for (const at::Tensor& value : values) {
    if (value.numel() == 0) continue;
    pending.push_back(value);
    bytes += static_cast<std::int64_t>(value.nbytes());
    if (bytes >= kBroadcastBytes) send();
  }
  send();
}

}  // namespace espalier::parallel
