// CheckpointFormats that break one promise each. `violates` names the check that has to find it.
#include <algorithm>
#include <chrono>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/safetensors.h"
#include "espalier/sdk/checkpoint_format.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

/// Safetensors by another name.
class Sound : public CheckpointFormat {
 public:
  std::unique_ptr<TensorFile> open(const std::string& path) const override {
    return std::make_unique<SafetensorsFile>(path);
  }
  void write(const std::string& path, const std::vector<TensorSource>& tensors,
             const TensorMetadata& metadata) const override {
    write_safetensors(path, tensors, metadata);
  }
};

class NoTensors final : public TensorFile {
 public:
  explicit NoTensors(const std::string& path) : TensorFile(path) {}
};

struct TakesWhatIsThere final : Sound {
  std::unique_ptr<TensorFile> open(const std::string& path) const override {
    try {
      return Sound::open(path);
    } catch (const Error&) {
      return std::make_unique<NoTensors>(path);
    }
  }
};

struct ThrowsAnything final : Sound {
  std::unique_ptr<TensorFile> open(const std::string& path) const override {
    if (read_file(path).starts_with("a text")) throw std::runtime_error("bad magic");
    return Sound::open(path);
  }
};

class NotIndexed final : public TensorFile {
 public:
  explicit NotIndexed(const std::string& path) : TensorFile(path) {
    tensors_ = SafetensorsFile(path).tensors();
  }
};

struct ForgetsTheIndex final : Sound {
  std::unique_ptr<TensorFile> open(const std::string& path) const override {
    return std::make_unique<NotIndexed>(path);
  }
};

class OtherEnd final : public TensorFile {
 public:
  explicit OtherEnd(const std::string& path) : TensorFile(path) {
    TensorInfo tensor;
    tensor.name = "w";
    tensor.end = file_.bytes().size();
    tensor.shape = {static_cast<std::int64_t>(tensor.end / 4)};
    add_tensor(tensor);
    index_tensors();
  }
};

/// Numbers in the byte order of networks, given as they are.
struct BigEndian final : CheckpointFormat {
  std::unique_ptr<TensorFile> open(const std::string& path) const override {
    return std::make_unique<OtherEnd>(path);
  }
};

struct LeavesOutEmpty final : Sound {
  void write(const std::string& path, const std::vector<TensorSource>& tensors,
             const TensorMetadata& metadata) const override {
    std::vector<TensorSource> kept = tensors;
    std::erase_if(kept, [](const TensorSource& tensor) {
      return std::find(tensor.shape.begin(), tensor.shape.end(), 0) != tensor.shape.end();
    });
    Sound::write(path, kept, metadata);
  }
};

struct AsksTwice final : Sound {
  void write(const std::string& path, const std::vector<TensorSource>& tensors,
             const TensorMetadata& metadata) const override {
    for (const TensorSource& tensor : tensors) {
      if (tensor.write) tensor.write([](std::span<const std::byte>) {});
    }
    Sound::write(path, tensors, metadata);
  }
};

/// What is gathered is another thing the second time.
class Changing final : public SafetensorsFile {
 public:
  using SafetensorsFile::SafetensorsFile;

 protected:
  std::optional<std::span<const std::byte>> gathered(const TensorInfo& tensor) const override {
    const bool first = calls_++ % 2 == 0;
    const std::byte* begin = file_.bytes().data() + data_begin_ + (first ? tensor.begin : 0);
    return std::span(begin, tensor.size_bytes());
  }

 private:
  mutable std::atomic<int> calls_ = 0;
};

struct Changes final : Sound {
  std::unique_ptr<TensorFile> open(const std::string& path) const override {
    return std::make_unique<Changing>(path);
  }
};

/// One buffer for all tensors.
class Shared final : public SafetensorsFile {
 public:
  using SafetensorsFile::SafetensorsFile;

 protected:
  std::optional<std::span<const std::byte>> gathered(const TensorInfo& tensor) const override {
    const std::byte* begin = file_.bytes().data() + data_begin_ + tensor.begin;
    std::copy_n(begin, std::min<std::size_t>(tensor.size_bytes(), sizeof buffer_), buffer_);
    std::this_thread::sleep_for(std::chrono::microseconds(50));
    return std::span(buffer_, std::min<std::size_t>(tensor.size_bytes(), sizeof buffer_));
  }

 private:
  mutable std::byte buffer_[4096] = {};
};

struct SharesABuffer final : Sound {
  std::unique_ptr<TensorFile> open(const std::string& path) const override {
    return std::make_unique<Shared>(path);
  }
};

class ReadWhole final : public SafetensorsFile {
 public:
  explicit ReadWhole(const std::string& path) : SafetensorsFile(path), content_(read_file(path)) {}

 private:
  std::string content_;
};

struct ReadsEverything final : Sound {
  std::unique_ptr<TensorFile> open(const std::string& path) const override {
    return std::make_unique<ReadWhole>(path);
  }
};

template <class T>
ComponentBuilder add(Registrar& registrar, const char* name, const char* check) {
  return registrar.add<CheckpointFormat, T>(name, "Breaks a promise.")
      .serves("files", {"*.toy"})
      .property("violates", check);
}

void register_components(Registrar& registrar) {
  add<Sound>(registrar, "writes_what_it_does_not_serve", "checkpoint.serves")
      .property("writes", "model.other");
  add<BigEndian>(registrar, "big_endian", "checkpoint.values");
  const auto wrong = [&]<class T>(T*, const char* name, const char* check) {
    add<T>(registrar, name, check).property("writes", "model.toy");
  };
  wrong(static_cast<TakesWhatIsThere*>(nullptr), "takes_what_is_there", "checkpoint.truncated");
  wrong(static_cast<ThrowsAnything*>(nullptr), "throws_anything", "checkpoint.unknown");
  wrong(static_cast<ForgetsTheIndex*>(nullptr), "forgets_the_index", "checkpoint.names");
  wrong(static_cast<LeavesOutEmpty*>(nullptr), "leaves_out_empty", "checkpoint.round_trip");
  wrong(static_cast<AsksTwice*>(nullptr), "asks_twice", "checkpoint.write");
  wrong(static_cast<Changes*>(nullptr), "changes", "checkpoint.slices");
  wrong(static_cast<SharesABuffer*>(nullptr), "shares_a_buffer", "checkpoint.threads");
  wrong(static_cast<ReadsEverything*>(nullptr), "reads_everything", "checkpoint.memory");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("wrong.checkpoints", "1.0.0", espalier::register_components)
