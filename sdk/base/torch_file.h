#pragma once

#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/tensor_file.h"

namespace espalier {

/// The tensors of a file that torch.save wrote (pytorch_model.bin), as a zip archive or in the form
/// before it. The pickle in it is read as data by PickleReader: a file that wants anything executed
/// is refused with the name of what it wants, as torch.load(weights_only=True) does. A tensor in a
/// table inside of the table is found under "outer.inner", or without "outer." where the outermost
/// table has no tensors (a checkpoint {"state_dict": {...}, "epoch": 3}). Quantised and sparse
/// tensors are refused. Throws Error(kBadInput).
class ESPALIER_API TorchFile : public TensorFile {
 public:
  explicit TorchFile(std::string path);

  /// Whether the first bytes are those of such a file.
  static bool is_torch_file(const std::string& path);

  /// How a tensor's elements stand in the file.
  struct Layout {
    std::vector<std::int64_t> strides;  ///< in elements
    std::uint64_t begin = 0;            ///< of the first element, in the file
  };
  const Layout& layout(const std::string& name) const { return layouts_.at(name); }

 protected:
  std::optional<std::span<const std::byte>> gathered(const TensorInfo& tensor) const override;

 private:
  std::map<std::string, Layout> layouts_;
  std::set<std::string> scattered_;  ///< tensors that are gathered when they are asked for
  mutable std::mutex gathering_;
  mutable std::map<std::string, std::vector<std::byte>> gathered_;
};

}  // namespace espalier
