#include "sharded_group.h"

#include <ATen/core/grad_mode.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <map>

#include "espalier/base/error.h"

namespace espalier {
namespace {

void resize_storage(const at::Tensor& tensor, std::size_t bytes) {
  at::native::resize_bytes_nocuda(tensor.storage(), static_cast<std::int64_t>(bytes));
}

std::int64_t product(const std::vector<std::int64_t>& sizes, std::size_t from) {
  std::int64_t product = 1;
  for (std::size_t i = from; i < sizes.size(); ++i) product *= sizes[i];
  return product;
}

/// Whether nothing else refers to the tensor or its memory, so that it may be added to.
bool is_own(const at::Tensor& tensor) {
  return tensor.use_count() == 1 && tensor.storage().use_count() == 1 &&
         tensor.is_non_overlapping_and_dense();
}

/// How rows lie on the ranks: `full` have a whole run, the next one `rest` rows, the others none.
struct RowRuns {
  RowRuns(std::int64_t rows, int ranks)
      : run(std::max<std::int64_t>(1, (rows + ranks - 1) / ranks)),
        full(rows / run),
        rest(rows % run) {}
  std::int64_t run;
  std::int64_t full;
  std::int64_t rest;
};

/// Copies the rows of every rank from [ranks, padded size] into the whole.
void unpack_rows(const at::Tensor& whole, const at::Tensor& received, std::int64_t offset,
                 std::int64_t rows, std::int64_t row_size, int ranks) {
  const RowRuns runs(rows, ranks);
  const at::Tensor flat = whole.view({-1});
  const std::int64_t size = runs.run * row_size;
  if (runs.full > 0)
    flat.narrow(0, 0, runs.full * size)
        .view({runs.full, size})
        .copy_(received.narrow(0, 0, runs.full).narrow(1, offset, size));
  if (runs.rest > 0)
    flat.narrow(0, runs.full * size, runs.rest * row_size)
        .copy_(received.select(0, runs.full).narrow(0, offset, runs.rest * row_size));
}

}  // namespace

std::pair<std::int64_t, std::int64_t> ShardedGroup::rows_of(std::int64_t rows, int rank, int size) {
  const std::int64_t run = (rows + size - 1) / size;
  return {std::min(rows, rank * run), std::min(rows, (rank + 1) * run)};
}

at::Tensor gather_rows(const at::Tensor& own, std::int64_t rows, Communicator& ranks) {
  const at::NoGradGuard no_grad;
  std::vector<std::int64_t> shape = own.sizes().vec();
  const std::int64_t row_size = product(shape, 1);
  const std::int64_t padded = (rows + ranks.size() - 1) / ranks.size() * row_size;
  const auto options = own.options().requires_grad(false);
  const at::Tensor sent = at::zeros({padded}, options);
  sent.narrow(0, 0, own.numel()).copy_(own.reshape({-1}));
  const at::Tensor received = at::empty({ranks.size(), padded}, options);
  ranks.all_gather(received.view({-1}), sent, "a parameter")->wait();
  shape[0] = rows;
  at::Tensor whole = at::empty(shape, options);
  unpack_rows(whole, received, 0, rows, row_size, ranks.size());
  return whole;
}

ShardedGroup::ShardedGroup(std::string name,
                           const std::vector<std::shared_ptr<Parameter>>& parameters,
                           std::shared_ptr<const ShardingSetup> setup, at::Device device,
                           bool reshard_after_forward)
    : name_(std::move(name)),
      setup_(std::move(setup)),
      device_(device),
      reshard_after_forward_(reshard_after_forward) {
  std::map<at::ScalarType, std::size_t> flat_of;
  for (const auto& parameter : parameters) {
    Member member;
    member.parameter = parameter;
    shard(member);
    const at::ScalarType dtype = member.dtype;
    const auto [place, fresh] = flat_of.try_emplace(dtype, flats_.size());
    if (fresh) flats_.emplace_back();
    Flat& flat = flats_[place->second];
    flat.members.push_back(members_.size());
    flat.size += member.padded_size();
    if (member.trained) {
      trained_.push_back(members_.size());
      reduced_size_ += member.padded_size() + 1;
    }
    members_.push_back(std::move(member));
  }
}

void ShardedGroup::shard(Member& member) {
  const at::NoGradGuard no_grad;
  const at::Tensor value = member.parameter->value().detach();
  const int ranks = setup_->shard->size();
  member.shape = value.sizes().vec();
  ESPALIER_ASSERT(!member.shape.empty(), "a parameter without dimensions can't be cut into rows");
  member.rows = member.shape[0];
  member.row_size = product(member.shape, 1);
  member.padded_rows = (member.rows + ranks - 1) / ranks;
  member.trained = member.parameter->trainable();
  const auto [begin, end] = rows_of(member.rows, setup_->shard->rank(), ranks);
  const at::Tensor own = value.narrow(0, begin, end - begin).clone();
  // On the meta device until the host has read what this rank holds.
  const bool moves = setup_->cpu_offload && !own.is_meta();
  member.parameter->set_value(moves ? own.cpu() : own);
  const bool keeps_dtype = !setup_->param_dtype || member.parameter->spec().buffer ||
                           !at::isFloatingType(value.scalar_type());
  member.dtype = keeps_dtype ? value.scalar_type() : *setup_->param_dtype;
}

/// Where the parameters are gathered: made at the first gathering, not while a plan is made.
void ShardedGroup::make_wholes() {
  for (Member& member : members_) {
    if (member.whole.defined()) continue;
    member.whole = at::empty(member.shape, at::TensorOptions().dtype(member.dtype).device(device_));
    resize_storage(member.whole, 0);
  }
}

void ShardedGroup::start_gather() {
  if (gathered_ || flats_.empty() || flats_.front().work != nullptr) return;
  const at::NoGradGuard no_grad;
  make_wholes();
  for (Flat& flat : flats_) {
    const auto options = members_[flat.members.front()].whole.options();
    flat.sent = at::empty({flat.size}, options);
    flat.received = at::empty({setup_->shard->size(), flat.size}, options);
    std::int64_t offset = 0;
    for (const std::size_t i : flat.members) {
      const at::Tensor own = members_[i].parameter->value().detach().reshape({-1});
      flat.sent.narrow(0, offset, own.numel()).copy_(own);
      // What is behind a short run is never read; it is set so that no garbage travels.
      flat.sent.narrow(0, offset + own.numel(), members_[i].padded_size() - own.numel()).zero_();
      offset += members_[i].padded_size();
    }
    flat.work = setup_->shard->all_gather(flat.received.view({-1}), flat.sent, name_.c_str());
  }
}

void ShardedGroup::copy_out(const Flat& flat) {
  std::int64_t offset = 0;
  for (const std::size_t i : flat.members) {
    const Member& member = members_[i];
    resize_storage(member.whole,
                   static_cast<std::size_t>(member.whole.numel()) * member.whole.element_size());
    unpack_rows(member.whole, flat.received, offset, member.rows, member.row_size,
                setup_->shard->size());
    offset += member.padded_size();
  }
}

void ShardedGroup::gather() {
  if (gathered_) return;
  start_gather();
  const at::NoGradGuard no_grad;
  for (Flat& flat : flats_) {
    flat.work->wait();
    copy_out(flat);
    flat.work = nullptr;
    flat.sent.reset();
    flat.received.reset();
  }
  gathered_ = true;
}

void ShardedGroup::free() {
  if (!gathered_ && !flats_.empty() && flats_.front().work != nullptr) {
    gather();  // a gathering ahead that nobody used: its buffers can't go before it has ended
  }
  if (!gathered_) return;
  for (const Member& member : members_) resize_storage(member.whole, 0);
  gathered_ = false;
}

std::vector<at::Tensor> ShardedGroup::trained_shards() const {
  std::vector<at::Tensor> shards;
  for (const std::size_t i : trained_) shards.push_back(members_[i].parameter->value());
  return shards;
}

std::vector<at::Tensor> ShardedGroup::trained_wholes() const {
  std::vector<at::Tensor> wholes;
  // A new tensor over the same storage: it has its own history and version.
  for (const std::size_t i : trained_) wholes.push_back(members_[i].whole.variable_data());
  return wholes;
}

void ShardedGroup::set_views(const std::vector<at::Tensor>& wholes) {
  std::size_t next = 0;
  for (const Member& member : members_)
    member.parameter->set_view(member.trained ? wholes[next++] : member.whole.variable_data());
}

void ShardedGroup::clear_views() {
  for (const Member& member : members_) member.parameter->set_view({});
}

void ShardedGroup::add_gradients(std::vector<at::Tensor> gradients, bool reduce) {
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < trained_.size(); ++i) {
    if (!gradients[i].defined()) continue;
    Member& member = members_[trained_[i]];
    if (member.kept_gradient.defined())
      member.kept_gradient.add_(gradients[i]);
    else if (reduce || (gradients[i].scalar_type() == setup_->reduce_dtype && is_own(gradients[i])))
      member.kept_gradient = std::move(gradients[i]);  // read at once, or nobody else's
    else
      member.kept_gradient = gradients[i].to(setup_->reduce_dtype, false, /*copy=*/true);
  }
  if (reduce) start_reduce();
}

/// Puts a whole gradient where the rows of each rank travel from.
void ShardedGroup::write_gradient(const at::Tensor& input, const Member& member,
                                  std::int64_t offset) const {
  const at::Tensor& gradient = member.kept_gradient;
  const at::Tensor places = input.narrow(1, offset, member.padded_size() + 1);
  if (!gradient.defined()) {
    places.zero_();
    return;
  }
  places.select(1, member.padded_size()).fill_(1.0);
  const RowRuns runs(member.rows, setup_->shard->size());
  // Row by row: a gradient may be laid out the other way round.
  std::vector<std::int64_t> shape = {runs.full, runs.run};
  shape.insert(shape.end(), member.shape.begin() + 1, member.shape.end());
  if (runs.full > 0)
    places.narrow(0, 0, runs.full)
        .narrow(1, 0, member.padded_size())
        .view(shape)
        .copy_(gradient.narrow(0, 0, runs.full * runs.run).view(shape));
  std::int64_t filled = runs.full;
  if (runs.rest > 0) {
    const at::Tensor rows = gradient.narrow(0, runs.full * runs.run, runs.rest);
    const at::Tensor place = places.select(0, filled++);
    const std::int64_t count = runs.rest * member.row_size;
    place.narrow(0, 0, count).view(rows.sizes()).copy_(rows);
    place.narrow(0, count, member.padded_size() - count).zero_();
  }
  places.narrow(0, filled, places.size(0) - filled).narrow(1, 0, member.padded_size()).zero_();
}

void ShardedGroup::start_reduce() {
  const int ranks = setup_->shard->size();
  const auto options = at::TensorOptions().dtype(setup_->reduce_dtype).device(device_);
  Reduction reduction;
  reduction.input = at::empty({ranks, reduced_size_}, options);
  reduction.output = at::empty({reduced_size_}, options);
  std::int64_t offset = 0;
  for (const std::size_t i : trained_) {
    write_gradient(reduction.input, members_[i], offset);
    members_[i].kept_gradient.reset();
    offset += members_[i].padded_size() + 1;
  }
  reduction.work =
      setup_->shard->reduce_scatter(reduction.output, reduction.input.view({-1}), "gradients");
  reductions_.push_back(std::move(reduction));
  reduced_in_step_ = true;
}

void ShardedGroup::finish_reduce() {
  const at::NoGradGuard no_grad;
  for (Reduction& reduction : reductions_) {
    reduction.work->wait();
    reduction.input.reset();
    if (setup_->replicate->size() > 1)
      setup_->replicate->all_reduce(reduction.output, "gradients of all copies")->wait();
    std::int64_t offset = 0;
    for (const std::size_t i : trained_) {
      const Member& member = members_[i];
      const at::Tensor& value = member.parameter->value();
      const at::Tensor sum = reduction.output.narrow(0, offset, value.numel()).view(value.sizes());
      const bool used =
          reduction.output.narrow(0, offset + member.padded_size(), 1).item<double>() > 0;
      offset += member.padded_size() + 1;
      if (!used) continue;
      at::Tensor& gradient = value.mutable_grad();
      if (gradient.defined())
        gradient.add_(sum.to(gradient.device()));
      else
        gradient = sum.to(value.options().requires_grad(false), false, /*copy=*/true);
    }
  }
  reductions_.clear();
}

void ShardedGroup::finish_step() {
  if (!trained_.empty() && !reduced_in_step_) {
    const at::NoGradGuard no_grad;
    start_reduce();
  }
  finish_reduce();
  reduced_in_step_ = false;
}

}  // namespace espalier
