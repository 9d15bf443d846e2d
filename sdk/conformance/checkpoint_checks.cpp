// What loading relies on in a CheckpointFormat: tensors with the bytes that were written, read
// piece by piece from several threads, in little memory; and damaged files that are refused.
#include <malloc.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <thread>

#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/base/random.h"
#include "espalier/base/served_files.h"
#include "espalier/base/suggest.h"
#include "espalier/conformance/interfaces.h"
#include "espalier/sdk/checkpoint_format.h"

#if defined(__SANITIZE_ADDRESS__)
extern "C" std::size_t __sanitizer_get_current_allocated_bytes();  // GCC ships no header for it
#endif

namespace espalier::conformance {
namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<std::byte>;

constexpr std::int64_t kManyElements = std::int64_t{1} << 23;  // 32 MB in float32

/// The name of the file that the format writes; empty for one that only reads.
std::string written_name(const Subject& subject) {
  const Value* name = subject.properties.find("writes");
  return name == nullptr ? std::string() : name->as_string();
}

struct Written {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;
  Bytes bytes;

  TensorSource source() const { return {name, dtype, shape, bytes, {}}; }
};

Written random_tensor(const std::string& name, DType dtype, std::vector<std::int64_t> shape,
                      std::uint64_t seed) {
  Written tensor{name, dtype, std::move(shape), {}};
  tensor.bytes.resize(tensor_size_bytes(dtype, tensor.shape, name));
  const CounterRandom random(seed, hash_text(name));
  for (std::size_t i = 0; i < tensor.bytes.size(); ++i)
    tensor.bytes[i] =
        static_cast<std::byte>(dtype == DType::kBool ? random.below(i, 2) : random.below(i, 256));
  return tensor;
}

/// Odd, empty and scalar shapes, and names that sort otherwise than they are given.
std::vector<Written> some_tensors(const Subject& subject) {
  return {random_tensor("model.layers.1.weight", DType::kF32, {5, 7}, subject.seed),
          random_tensor("model.layers.0.weight", DType::kF32, {2, 3, 4}, subject.seed),
          random_tensor("a.bias", DType::kF32, {1}, subject.seed),
          random_tensor("z.scalar", DType::kF32, {}, subject.seed),
          random_tensor("m.empty", DType::kF32, {0, 3}, subject.seed)};
}

std::string write(const Subject& subject, const std::vector<Written>& tensors) {
  std::vector<TensorSource> sources;
  sources.reserve(tensors.size());
  for (const Written& tensor : tensors) sources.push_back(tensor.source());
  std::string path = subject.folder + "/" + written_name(subject);
  subject.create<CheckpointFormat>()->write(path, sources, {{"format", "pt"}});
  return path;
}

std::unique_ptr<TensorFile> opened(const Subject& subject, const std::string& path) {
  auto file = subject.create<CheckpointFormat>()->open(path);
  ESPALIER_ASSERT(file != nullptr, "open gave a null pointer instead of a file");
  return file;
}

/// A file to look at: one of conformance.json, or one that the format writes itself.
std::string sample_file(const Subject& subject) {
  const std::vector<std::string> given = served_files(subject.serves, subject.folder);
  if (!given.empty()) return given.front();
  return written_name(subject).empty() ? std::string() : write(subject, some_tensors(subject));
}

std::string shown(const TensorInfo& tensor) {
  std::string text = std::string(dtype_name(tensor.dtype)) + " [";
  for (std::size_t d = 0; d < tensor.shape.size(); ++d)
    text += (d > 0 ? ", " : "") + std::to_string(tensor.shape[d]);
  return text + "]";
}

Bytes bytes_of(const TensorFile& file, const std::string& name) {
  const std::span<const std::byte> data = file.data(name);
  return {data.begin(), data.end()};
}

void compare(const TensorFile& file, const std::vector<Written>& tensors, Report& report) {
  if (file.tensors().size() != tensors.size())
    report.fail("the file has another number of tensors than was written",
                std::to_string(file.tensors().size()), std::to_string(tensors.size()));
  for (const Written& tensor : tensors) {
    const TensorInfo* found = file.find(tensor.name);
    if (found == nullptr) {
      report.fail("a tensor that was written is not there", {}, tensor.name);
      continue;
    }
    TensorInfo expected;
    expected.dtype = tensor.dtype;
    expected.shape = tensor.shape;
    if (found->dtype != tensor.dtype || found->shape != tensor.shape)
      report.fail("tensor '" + tensor.name + "' came back as another one", shown(*found),
                  shown(expected));
    else if (bytes_of(file, tensor.name) != tensor.bytes)
      report.fail("tensor '" + tensor.name + "' came back with other bytes", {},
                  std::to_string(tensor.bytes.size()) + " bytes as written",
                  "tensors are row-major and little endian");
  }
}

void check_serves(const Subject& subject, Report& report) {
  if (!subject.serves.contains("files"))
    return report.fail("the manifest does not say which files the format is for", {},
                       "serves(\"files\", {\"*.ending\"})", "without it no folder is found");
  const std::string path = sample_file(subject);
  if (path.empty())
    return report.fail("there is nothing to try the format on", {},
                       "a small file in conformance.json, or property(\"writes\", NAME)",
                       "give one under \"files\" in conformance.json");
  const std::vector<std::string> served = served_files(subject.serves, subject.folder);
  if (std::find(served.begin(), served.end(), path) == served.end())
    report.fail("the file that the format writes is none that it serves", path,
                dump_json(*subject.serves.find("files")), "let the patterns and the magic fit it");
}

/// A damaged file ends in an Error that names it, or has the tensors that it had.
void try_damaged(const Subject& subject, const std::string& path, const std::string& what,
                 bool may_open, Report& report) {
  try {
    const auto file = subject.create<CheckpointFormat>()->open(path);
    for (const TensorInfo& tensor : file->tensors()) file->data(tensor.name);
    if (!may_open)
      report.fail(what + " is opened without an error",
                  std::to_string(file->tensors().size()) + " tensors",
                  "Error(kBadInput) that names the file",
                  "check lengths against the size of the file before you believe them");
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kInternal)
      report.fail(what + " ends in a broken invariant", error.what(),
                  "Error(kBadInput) that names the file");
    else if (std::string(error.what()).find(path) == std::string::npos)
      report.fail("the error for " + what + " does not name the file", error.what(),
                  "a message with " + path, "give the path as `where`");
  } catch (const std::exception& error) {
    report.fail(what + " ends in something else than an Error", error.what(),
                "Error(kBadInput) that names the file");
  }
}

void check_truncated(const Subject& subject, Report& report) {
  const std::string path = sample_file(subject);
  if (path.empty()) return report.skip("conformance.json gives no file");
  const std::string whole = read_file(path);
  std::vector<std::size_t> lengths = {0, 1, whole.size() - 1};
  for (std::size_t part = 1; part < 32; ++part) lengths.push_back(whole.size() * part / 32);
  for (const std::size_t length : lengths) {
    write_file_atomically(path, whole.substr(0, length));
    try_damaged(subject, path, "a file cut to " + std::to_string(length) + " bytes", false, report);
    if (report.outcome() == Outcome::kFail) return;
  }
}

void check_unknown(const Subject& subject, Report& report) {
  const std::string path = sample_file(subject);
  if (path.empty()) return report.skip("conformance.json gives no file");
  const std::string whole = read_file(path);
  const CounterRandom random(subject.seed, 1);
  std::string noise;
  while (noise.size() < 4096) noise += static_cast<char>(random.below(noise.size(), 256));
  write_file_atomically(path, "a text that is no weights\n");
  try_damaged(subject, path, "a text file", false, report);
  write_file_atomically(path, noise);
  try_damaged(subject, path, "a file of random bytes", false, report);
  for (std::uint64_t i = 0; i < 64 && report.outcome() != Outcome::kFail; ++i) {
    std::string damaged = whole;
    for (std::uint64_t n = 0; n < 4; ++n)
      damaged[random.below(10'000 + 8 * i + n, std::min<std::size_t>(damaged.size(), 4096))] =
          static_cast<char>(random.below(20'000 + 8 * i + n, 256));
    write_file_atomically(path, damaged);
    try_damaged(subject, path, "a file with other bytes in it", true, report);
  }
  fs::remove(path);
  try_damaged(subject, path, "a file that is not there", false, report);
}

void check_names(const Subject& subject, Report& report) {
  const std::string path = sample_file(subject);
  if (path.empty()) return report.skip("conformance.json gives no file");
  const auto file = opened(subject, path);
  if (file->path() != path)
    report.fail("the file says another path than it was opened with", file->path(), path);
  if (file->tensors().empty()) report.fail("the file has no tensors", "0", "at least one");
  for (const TensorInfo& tensor : file->tensors()) {
    const TensorInfo* found = file->find(tensor.name);
    if (found == nullptr || found->begin != tensor.begin)
      report.fail("a tensor is not found by its name", tensor.name, {},
                  "call index_tensors() at the end of the constructor");
    if (tensor.size_bytes() != tensor_size_bytes(tensor.dtype, tensor.shape, tensor.name))
      report.fail("the bytes of '" + tensor.name + "' do not fit its dtype and shape",
                  std::to_string(tensor.size_bytes()), shown(tensor), "add_tensor() checks that");
  }
}

/// "tensors" of conformance.json: {"w": {"dtype": "F32", "shape": [2], "values": [1, 2]}}.
void check_values(const Subject& subject, Report& report) {
  const Value* expected = subject.sample.find("tensors");
  if (expected == nullptr) {
    if (written_name(subject).empty())
      return report.fail("nobody says what the tensors of the file should be", {},
                         R"({"tensors": {"w": {"dtype": "F32", "shape": [2], "values": [1, 2]}}})",
                         "add that to the component's entry in conformance.json");
    return report.skip("conformance.json gives no tensors; checkpoint.round_trip writes its own");
  }
  const auto file = opened(subject, sample_file(subject));
  for (const auto& [name, entry] : expected->as_table()) {
    const TensorInfo& tensor = file->at(name);
    Array shape;
    for (const std::int64_t size : tensor.shape) shape.emplace_back(size);
    if (!(*entry.find("dtype") == Value(dtype_name(tensor.dtype))) ||
        !(*entry.find("shape") == Value(shape)))
      report.fail("tensor '" + name + "' is another one", shown(tensor), dump_json(entry));
    const Value* values = entry.find("values");
    if (values == nullptr || tensor.dtype != DType::kF32) continue;
    std::vector<float> wanted;
    for (const Value& value : values->as_array())
      wanted.push_back(static_cast<float>(value.as_float()));
    const Bytes bytes = bytes_of(*file, name);
    if (bytes.size() != wanted.size() * sizeof(float) ||
        std::memcmp(bytes.data(), wanted.data(), bytes.size()) != 0)
      report.fail("tensor '" + name + "' has other values", {}, dump_json(*values),
                  "values are row-major and little endian");
  }
}

void check_round_trip(const Subject& subject, Report& report) {
  if (written_name(subject).empty()) return report.skip("the format does not write");
  const std::vector<Written> tensors = some_tensors(subject);
  compare(*opened(subject, write(subject, tensors)), tensors, report);
  for (int i = 0; i < kDTypeCount; ++i) {
    const auto dtype = static_cast<DType>(i);
    const std::vector<Written> one = {random_tensor("weight", dtype, {4, 8}, subject.seed)};
    try {
      compare(*opened(subject, write(subject, one)), one, report);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kUnsupported)
        report.fail("the dtype " + std::string(dtype_name(dtype)) + " can't be written",
                    error.what(), "Error(kUnsupported) for a dtype that the format lacks");
    }
  }
}

void check_write(const Subject& subject, Report& report) {
  if (written_name(subject).empty()) return report.skip("the format does not write");
  const auto format = subject.create<CheckpointFormat>();
  const std::string path = subject.folder + "/" + written_name(subject);
  const Written tensor = random_tensor("weight", DType::kF32, {3, 5}, subject.seed);
  // A source that hands its bytes over in pieces, and only once.
  int calls = 0;
  TensorSource pieces{tensor.name, tensor.dtype, tensor.shape, {}, [&](const TensorSink& sink) {
                        ++calls;
                        const std::span<const std::byte> bytes = tensor.bytes;
                        for (std::size_t at = 0; at < bytes.size(); at += 7)
                          sink(bytes.subspan(at, std::min<std::size_t>(7, bytes.size() - at)));
                      }};
  format->write(path, {pieces}, {});
  compare(*opened(subject, path), {tensor}, report);
  if (calls != 1)
    report.fail("a source was asked for its bytes more than once", std::to_string(calls), "1",
                "converting a model takes as long as its sources do");
  const auto refuses = [&](const std::string& what, const std::vector<TensorSource>& sources,
                           const std::string& target) {
    std::error_code ignored;
    fs::remove(target, ignored);
    try {
      format->write(target, sources, {});
      report.fail(what + " is written", {}, "an Error");
    } catch (const Error&) {
    }
    if (fs::exists(target))
      report.fail(what + " leaves a file behind", target, "no file",
                  "write with AtomicFile, and commit when all is there");
  };
  refuses("a name that comes twice", {tensor.source(), tensor.source()}, path);
  TensorSource less = tensor.source();
  less.data = less.data.first(less.data.size() - 4);
  refuses("a source with too few bytes", {less}, path);
  TensorSource fails = pieces;
  fails.write = [](const TensorSink&) { throw_bad_input("injected failure", {}, {}, {}); };
  refuses("a source that fails", {fails}, path);
  refuses("a folder that is not there", {tensor.source()}, subject.folder + "/no/such/folder");
}

constexpr const char* kSameBytes = "let `gathered` give the same bytes each time it is asked";

void check_slices(const Subject& subject, Report& report) {
  const std::string path = sample_file(subject);
  if (path.empty()) return report.skip("conformance.json gives no file");
  const auto file = opened(subject, path);
  for (const TensorInfo& tensor : file->tensors()) {
    const auto bits = static_cast<std::uint64_t>(dtype_bits(tensor.dtype));
    if (tensor.shape.empty() || tensor.element_count() == 0 || bits < 8) continue;
    const Bytes whole = bytes_of(*file, tensor.name);
    Bytes part(whole.size() - whole.size() / 3);
    file->read_bytes(tensor.name, whole.size() / 3, part);
    if (!std::equal(part.begin(), part.end(), whole.end() - std::ssize(part)))
      return report.fail("read_bytes gives other bytes than data", tensor.name, {}, kSameBytes);
    // All but the first row, which lies in one piece in row-major order.
    std::vector<DimensionRange> ranges;
    for (const std::int64_t size : tensor.shape) ranges.push_back({0, size});
    ranges[0].begin = std::min<std::int64_t>(1, tensor.shape[0]);
    const std::size_t row = whole.size() / static_cast<std::size_t>(tensor.shape[0]);
    part.resize(whole.size() - row * static_cast<std::size_t>(ranges[0].begin));
    file->read_slice(tensor.name, ranges, part);
    if (!std::equal(part.begin(), part.end(), whole.end() - std::ssize(part)))
      return report.fail("read_slice gives other bytes than data", tensor.name, {}, kSameBytes);
  }
}

void check_threads(const Subject& subject, Report& report) {
  const std::string path = sample_file(subject);
  if (path.empty()) return report.skip("conformance.json gives no file");
  std::vector<Bytes> expected;
  const auto reference = opened(subject, path);
  for (const TensorInfo& tensor : reference->tensors())
    expected.push_back(bytes_of(*reference, tensor.name));
  constexpr std::size_t kThreads = 4;
  constexpr std::size_t kRounds = 10;
  std::vector<std::string> wrong(kThreads);
  for (std::size_t round = 0; round < kRounds; ++round) {
    const auto file = opened(subject, path);  // fresh, so that what it gathers is gathered at once
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        try {
          for (std::size_t i = 0; i < expected.size(); ++i) {
            const std::size_t which = (i + t) % expected.size();
            if (bytes_of(*file, file->tensors()[which].name) != expected[which])
              wrong[t] = file->tensors()[which].name;
          }
        } catch (const std::exception& error) {
          wrong[t] = error.what();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  for (const std::string& text : wrong) {
    if (!text.empty())
      return report.fail("four threads read other bytes than one", text, "equal bytes",
                         "guard what `gathered` keeps by a mutex");
  }
}

/// Memory that is allocated now, the large pieces that the C library maps included.
std::size_t held() {
#if defined(__SANITIZE_ADDRESS__)
  return __sanitizer_get_current_allocated_bytes();  // its allocator is not that of the C library
#else
  const auto now = ::mallinfo2();
  return now.uordblks + now.hblkhd;
#endif
}

void check_memory(const Subject& subject, Report& report) {
  if (written_name(subject).empty()) return report.skip("the format does not write");
  const auto format = subject.create<CheckpointFormat>();
  const std::string path = subject.folder + "/" + written_name(subject);
  const Bytes piece(1 << 16);
  std::size_t before = held();
  std::size_t most = before;
  TensorSource large{"weight", DType::kF32, {kManyElements}, {}, [&](const TensorSink& sink) {
                       for (std::int64_t i = 0; i < kManyElements * 4; i += std::ssize(piece)) {
                         sink(piece);
                         most = std::max(most, held());
                       }
                     }};
  constexpr std::size_t kLimit = kManyElements;  // a quarter of the tensor
  format->write(path, {large}, {});
  if (most > before + kLimit)
    report.fail("writing holds a tensor in memory", std::to_string((most - before) >> 20U) + " MB",
                "pieces of a tensor of 32 MB", "append each piece when it comes");
  before = held();
  const auto file = format->open(path);
  const std::span<const std::byte> data = file->data("weight", kManyElements, 4);
  if (data.size() != 4) report.fail("data gives another number of bytes than asked for");
  if (held() > before + kLimit)
    report.fail("opening reads the data of the tensors",
                std::to_string((held() - before) >> 20U) + " MB", "the directory of the file",
                "give the tensor's place in the file: data is mapped, and read when asked for");
}

}  // namespace

std::span<const Check> checkpoint_checks() {
  static constexpr Check kChecks[] = {
      {"checkpoint.serves", 2, "the manifest says which files the format is for", check_serves},
      {"checkpoint.truncated", 2, "a file that is cut short is an Error that names it",
       check_truncated},
      {"checkpoint.unknown", 2, "a file of another kind is an Error that names it", check_unknown},
      {"checkpoint.names", 3, "tensors are found, and their bytes fit their shapes", check_names},
      {"checkpoint.values", 3, "a file has the tensors that conformance.json says", check_values},
      {"checkpoint.round_trip", 3, "what was written is read: dtypes, shapes, bytes",
       check_round_trip},
      {"checkpoint.write", 3, "writing takes pieces once, and leaves nothing when it fails",
       check_write},
      {"checkpoint.slices", 3, "parts of a tensor are those of the whole", check_slices},
      {"checkpoint.threads", 3, "several threads read what one reads", check_threads},
      {"checkpoint.memory", 3, "memory does not grow with the file", check_memory},
  };
  return kChecks;
}

}  // namespace espalier::conformance
