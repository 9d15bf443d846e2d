// Weights in NumPy's .npz, as numpy.savez and MLX write them: a zip archive with an .npy file for
// each tensor. Numbers in row-major order are read where they lie; those in Fortran's order are put
// in row-major order when they are asked for, and stay in memory then.
#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <set>

#include "espalier/base/error.h"
#include "espalier/base/zip_archive.h"
#include "espalier/sdk/checkpoint_format.h"
#include "espalier/sdk/plugin.h"
#include "npy_header.h"
#include "zip_writer.h"

namespace {

using espalier::TensorInfo;

constexpr std::string_view kSuffix = ".npy";

class NpzFile final : public espalier::TensorFile {
 public:
  explicit NpzFile(const std::string& path) : TensorFile(path) {
    const espalier::ZipArchive archive(file_.bytes(), path);
    for (const auto& [name, entry] : archive.entries()) add(name, archive.content(entry), entry);
    std::sort(tensors_.begin(), tensors_.end(),
              [](const TensorInfo& a, const TensorInfo& b) { return a.begin < b.begin; });
    index_tensors();
  }

 protected:
  std::optional<std::span<const std::byte>> gathered(const TensorInfo& tensor) const override {
    if (!columns_first_.contains(tensor.name)) return std::nullopt;
    const std::lock_guard lock(gathering_);
    const auto [found, is_new] = gathered_.try_emplace(tensor.name);
    if (is_new) found->second = rows_first(tensor);
    return found->second;
  }

 private:
  void add(const std::string& name, std::span<const std::byte> content,
           const espalier::ZipArchive::Entry& entry) {
    const std::string where = path() + ", entry '" + name + "'";
    if (!name.ends_with(kSuffix))
      espalier::throw_bad_input("the archive holds something else than arrays", name,
                                "names that end in .npy", where);
    const NpyHeader header = read_npy_header(content, where);
    TensorInfo tensor;
    tensor.name = name.substr(0, name.size() - kSuffix.size());
    tensor.dtype = header.dtype;
    tensor.shape = header.shape;
    tensor.begin = entry.begin + header.size;
    tensor.end = entry.begin + entry.size;
    if (header.columns_first && tensor.shape.size() > 1) columns_first_.insert(tensor.name);
    add_tensor(std::move(tensor));
  }

  std::vector<std::byte> rows_first(const TensorInfo& tensor) const {
    std::vector<std::byte> bytes(tensor.size_bytes());
    const auto element = static_cast<std::uint64_t>(espalier::dtype_bits(tensor.dtype)) / 8;
    const std::byte* from = file_.bytes().data() + tensor.begin;
    std::vector<std::int64_t> index(tensor.shape.size(), 0);
    for (std::uint64_t out = 0; out < bytes.size(); out += element) {
      std::uint64_t place = 0;
      for (std::size_t d = index.size(); d-- > 0;)
        place = place * static_cast<std::uint64_t>(tensor.shape[d]) +
                static_cast<std::uint64_t>(index[d]);
      std::memcpy(bytes.data() + out, from + place * element, element);
      for (std::size_t d = index.size(); d-- > 0 && ++index[d] == tensor.shape[d];) index[d] = 0;
    }
    return bytes;
  }

  std::set<std::string> columns_first_;
  mutable std::mutex gathering_;
  mutable std::map<std::string, std::vector<std::byte>> gathered_;
};

class NpzFormat final : public espalier::CheckpointFormat {
 public:
  std::unique_ptr<espalier::TensorFile> open(const std::string& path) const override {
    return std::make_unique<NpzFile>(path);
  }

  void write(const std::string& path, const std::vector<espalier::TensorSource>& tensors,
             const espalier::TensorMetadata& /*there is no place for it*/) const override {
    check(path, tensors);
    ZipWriter archive(path);
    for (const espalier::TensorSource& tensor : tensors) {
      const std::string header = *npy_header(tensor.dtype, tensor.shape);
      archive.begin(tensor.name + std::string(kSuffix));
      archive.append(std::as_bytes(std::span(header)));
      std::uint64_t given = 0;
      const auto sink = [&](std::span<const std::byte> bytes) {
        given += bytes.size();
        archive.append(bytes);
      };
      if (tensor.write)
        tensor.write(sink);
      else
        sink(tensor.data);
      ESPALIER_ASSERT(given == espalier::tensor_size_bytes(tensor.dtype, tensor.shape, path),
                      "tensor '" + tensor.name + "' was given " + std::to_string(given) +
                          " bytes, which its dtype and shape don't fit");
      archive.end();
    }
    archive.commit();
  }

 private:
  static void check(const std::string& path, const std::vector<espalier::TensorSource>& tensors) {
    std::set<std::string> names;
    for (const espalier::TensorSource& tensor : tensors) {
      if (!names.insert(tensor.name).second)
        espalier::throw_bad_input("two tensors have one name", tensor.name, "each name once", path);
      if (npy_header(tensor.dtype, tensor.shape)) continue;
      throw espalier::Error(
          {espalier::ErrorCode::kUnsupported, "NumPy has no such type of numbers",
           std::string(espalier::dtype_name(tensor.dtype)), "F32, F16, or an integer type",
           path + ", tensor '" + tensor.name + "'", "convert the weights too: --dtype float32"});
    }
  }
};

void register_components(espalier::Registrar& registrar) {
  registrar
      .add<espalier::CheckpointFormat, NpzFormat>("npz", "Weights in NumPy's .npz, not compressed.")
      .serves("files", {"*.npz"})
      .serves("magic", {"504b0304"})
      .property("writes", "model.npz");
}

}  // namespace

ESPALIER_PLUGIN("espalier.npz", "0.1.0", register_components)
