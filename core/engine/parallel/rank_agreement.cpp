#include "engine/parallel/rank_agreement.h"

#include <ATen/ops/zeros.h>

#include <exception>
#include <string>

#include "espalier/base/error.h"

namespace espalier {

bool RankAgreement::any(bool says) const {
  if (world_.size() == 1) return says;
  at::Tensor flag = at::zeros({1}, at::TensorOptions().dtype(at::kInt));
  if (says) flag.fill_(1);
  world_.all()->all_reduce(flag, "agreement")->wait();
  return flag.item<int>() != 0;
}

void RankAgreement::on_all(const char* what, const std::function<void()>& work) const {
  std::exception_ptr failure;
  try {
    work();
  } catch (const Error& error) {
    // Without the others there is nobody left to agree with.
    if (world_.size() == 1 || error.code() == ErrorCode::kPeerFailed) throw;
    failure = std::current_exception();
  }
  if (!any(failure != nullptr)) return;
  if (failure) std::rethrow_exception(failure);
  throw Error(Problem{ErrorCode::kPeerFailed,
                      std::string("another rank failed while ") + what,
                      {},
                      {},
                      "rank " + std::to_string(world_.rank()),
                      "see the message of that rank"});
}

void RankAgreement::on_first(const char* what, const std::function<void()>& work) const {
  on_all(what, [&] {
    if (is_first()) work();
  });
}

}  // namespace espalier
