#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "espalier/sdk/communicator.h"
#include "espalier/sdk/parameter.h"

namespace espalier {

/// What all groups of a model share.
struct ShardingSetup {
  std::shared_ptr<Communicator> shard;      ///< the ranks that hold one copy of the model together
  std::shared_ptr<Communicator> replicate;  ///< the ranks that hold the same part of other copies
  std::optional<at::ScalarType> param_dtype;  ///< of gathered parameters; none: as stored
  at::ScalarType reduce_dtype = at::kFloat;   ///< of the sums of gradients
  bool cpu_offload = false;  ///< shards and their gradients stay in the host's memory
};

/// The parameters of a block, gathered and freed together. Each is cut along its first dimension
/// into equal runs of rows, of which the last ranks may have fewer or none; the leaf is this rank's
/// run. Gathered tensors keep one storage for ever, which is resized to nothing when they are
/// freed, so that what autograd saved of them is valid again after the next gathering.
class ShardedGroup {
 public:
  /// Parameters are gathered on `device`.
  ShardedGroup(std::string name, const std::vector<std::shared_ptr<Parameter>>& parameters,
               std::shared_ptr<const ShardingSetup> setup, at::Device device,
               bool reshard_after_forward);
  ShardedGroup(const ShardedGroup&) = delete;
  ShardedGroup& operator=(const ShardedGroup&) = delete;

  const std::string& name() const { return name_; }
  bool reshard_after_forward() const { return reshard_after_forward_; }
  void set_reshard_after_forward(bool reshard) { reshard_after_forward_ = reshard; }
  bool gathered() const { return gathered_; }

  /// Begins to gather; nothing happens when it is gathered or under way.
  void start_gather();
  /// Returns when the parameters are whole.
  void gather();
  /// Gives the memory of the gathered parameters back.
  void free();

  /// Leaves of the trained parameters, and gathered tensors without history in the same order.
  std::vector<at::Tensor> trained_shards() const;
  std::vector<at::Tensor> trained_wholes() const;
  /// Lays `wholes` (of the trained parameters, with history) and the gathered frozen ones over the
  /// leaves.
  void set_views(const std::vector<at::Tensor>& wholes);
  void clear_views();

  /// Takes gradients of the trained parameters, in their order; undefined where there is none. With
  /// `reduce` the sums of this and of what was kept begin to travel to the ranks that own the rows.
  void add_gradients(std::vector<at::Tensor> gradients, bool reduce);
  /// Waits for the sums under way and adds them to the gradients of the leaves.
  void finish_reduce();
  /// At the end of a step: reduces what has not been, waits, and forgets.
  void finish_step();

  /// Rows [begin, end) of the whole parameter that this rank holds.
  static std::pair<std::int64_t, std::int64_t> rows_of(std::int64_t rows, int rank, int size);

 private:
  struct Member {
    std::shared_ptr<Parameter> parameter;
    std::vector<std::int64_t> shape;  ///< of the whole
    std::int64_t rows = 0;            ///< of the whole
    std::int64_t row_size = 0;        ///< elements of a row
    std::int64_t padded_rows = 0;     ///< of every rank's run
    bool trained = false;
    at::ScalarType dtype = at::kFloat;  ///< of what is gathered
    at::Tensor whole;                   ///< gathered; its storage is empty while freed
    at::Tensor kept_gradient;           ///< of micro-batches before the last, whole
    std::int64_t padded_size() const { return padded_rows * row_size; }
  };
  /// Members of one dtype travel in one collective.
  struct Flat {
    std::vector<std::size_t> members;
    std::int64_t size = 0;  ///< elements that a rank sends
    at::Tensor sent;
    at::Tensor received;
    std::shared_ptr<Work> work;
  };
  struct Reduction {
    at::Tensor input;   ///< [ranks, size]: gradients and a flag for each trained member
    at::Tensor output;  ///< [size]
    std::shared_ptr<Work> work;
  };

  void shard(Member& member);
  void make_wholes();
  void copy_out(const Flat& flat);
  void start_reduce();
  void write_gradient(const at::Tensor& input, const Member& member, std::int64_t offset) const;

  std::string name_;
  std::shared_ptr<const ShardingSetup> setup_;
  at::Device device_;
  std::vector<Member> members_;
  std::vector<Flat> flats_;
  std::vector<std::size_t> trained_;  ///< members
  std::int64_t reduced_size_ = 0;
  std::vector<Reduction> reductions_;
  bool reshard_after_forward_;
  bool gathered_ = false;
  bool reduced_in_step_ = false;
};

/// The whole of a parameter from the runs of rows that the ranks hold; collective.
at::Tensor gather_rows(const at::Tensor& own, std::int64_t rows, Communicator& ranks);

}  // namespace espalier
