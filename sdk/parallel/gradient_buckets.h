#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "espalier/sdk/communicator.h"
#include "espalier/sdk/parameter.h"

namespace espalier::parallel {

/// Adds up the gradients of parameters that every rank holds whole, while the backward pass still
/// runs. Parameters go into buckets in reverse order, which is about the order in which their
/// gradients arrive; a bucket whose gradients are all there is reduced at once, in the same order
/// on every rank. Sums are of float32 (float64 for float64 parameters), whatever the parameters'
/// dtype.
///
/// Memory: one more copy of all gradients in the dtype of the sums. Communication of a step: an
/// all-reduce of as many bytes, and 4 bytes a parameter that say whether any rank has a gradient of
/// it: a parameter that no rank used has none afterwards.
class ESPALIER_API GradientBuckets {
 public:
  /// `bucket_bytes`: a bucket is closed before it would pass this.
  GradientBuckets(const std::vector<std::shared_ptr<Parameter>>& parameters,
                  std::shared_ptr<Communicator> communicator, std::int64_t bucket_bytes);
  GradientBuckets(const GradientBuckets&) = delete;
  GradientBuckets& operator=(const GradientBuckets&) = delete;
  ~GradientBuckets();

  /// Gradients stay where they are until the backward pass of the `last` micro-batch of a step.
  void begin_micro_batch(bool last);
  /// Reduces what the backward pass left over and waits for all: the parameters then hold the sums.
  void finish();

  std::size_t bucket_count() const { return buckets_.size(); }

 private:
  struct Member {
    std::shared_ptr<Parameter> parameter;
    std::int64_t offset = 0;  ///< into the bucket's flat tensor
    bool ready = false;
  };
  struct Bucket {
    std::vector<Member> members;
    at::Tensor flat;  ///< gradients, then a flag for each member
    std::size_t ready = 0;
    std::shared_ptr<Work> work;
  };
  class Hook;

  void fill(const std::vector<std::shared_ptr<Parameter>>& parameters, std::int64_t bucket_bytes);
  void gradient_arrived(std::size_t bucket, std::size_t member);
  void copy_in(Bucket& bucket, std::size_t member);
  void launch_ready();
  void copy_out(Bucket& bucket);

  std::shared_ptr<Communicator> communicator_;
  std::vector<Bucket> buckets_;
  std::size_t launched_ = 0;  ///< buckets before this one are under way
  bool armed_ = false;
};

/// Sends values from rank 0 of the group to all others, in pieces of about 32 MB.
ESPALIER_API void broadcast_values(const std::vector<at::Tensor>& values, Communicator& group);

}  // namespace espalier::parallel
