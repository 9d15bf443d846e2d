// Weights in one file: a line of JSON that says where each tensor is, then the numbers.
#include <espalier/base/atomic_file.h>
#include <espalier/base/error.h>
#include <espalier/base/json.h>
#include <espalier/sdk/checkpoint_format.h>
#include <espalier/sdk/plugin.h>

#include <string_view>

namespace {

using espalier::Value;

// Reads the line alone. add_tensor() checks that a tensor lies in the file, whose end is the end of
// the last one.
class File final : public espalier::TensorFile {
 public:
  explicit File(const std::string& path) : TensorFile(path) {
    const std::string_view text(reinterpret_cast<const char*>(file_.bytes().data()),
                                file_.bytes().size());
    const std::size_t end = text.find('\n');
    if (!text.starts_with('{') || end == std::string_view::npos)
      espalier::throw_bad_input("this is no {{name}} file", {}, "a line of JSON first", path);
    data_begin_ = end + 1;
    const Value directory = espalier::parse_json(text.substr(0, end), {.file = path});
    for (const auto& [name, entry] : directory.as_table()) {
      espalier::TensorInfo tensor;
      tensor.name = name;
      const auto dtype = espalier::dtype_from_name(member(entry, "dtype").as_string());
      if (!dtype) espalier::throw_bad_input("unknown dtype", dump_json(entry), "as F32", path);
      tensor.dtype = *dtype;
      for (const Value& size : member(entry, "shape").as_array())
        tensor.shape.push_back(size.as_int());
      tensor.begin = used_;
      used_ += espalier::tensor_size_bytes(tensor.dtype, tensor.shape, path);
      tensor.end = used_;
      add_tensor(std::move(tensor));
    }
    if (data_begin_ + used_ != text.size())
      espalier::throw_bad_input("the file does not end with its last tensor",
                                std::to_string(text.size()) + " bytes",
                                std::to_string(data_begin_ + used_) + " bytes", path);
    index_tensors();
  }

 private:
  const Value& member(const Value& entry, const char* key) const {
    if (const Value* value = entry.find(key)) return *value;
    espalier::throw_bad_input("a tensor has no " + std::string(key), dump_json(entry),
                              "dtype and shape", path());
  }

  std::uint64_t used_ = 0;
};

class {{Name}} final : public espalier::CheckpointFormat {
 public:
  std::unique_ptr<espalier::TensorFile> open(const std::string& path) const override {
    return std::make_unique<File>(path);
  }

  // AtomicFile: what fails half-way leaves nothing behind.
  void write(const std::string& path, const std::vector<espalier::TensorSource>& tensors,
             const espalier::TensorMetadata&) const override {
    espalier::Table directory;
    for (const espalier::TensorSource& tensor : tensors) {
      espalier::Table entry;
      entry.set("dtype", espalier::dtype_name(tensor.dtype));
      entry.set("shape", espalier::Array(tensor.shape.begin(), tensor.shape.end()));
      if (directory.contains(tensor.name))
        espalier::throw_bad_input("two tensors have one name", tensor.name, "one of each", path);
      directory.set(tensor.name, std::move(entry));
    }
    espalier::AtomicFile file(path);
    file.append(espalier::dump_json(directory) + "\n");
    for (const espalier::TensorSource& tensor : tensors) {
      const std::uint64_t end =
          file.size() + espalier::tensor_size_bytes(tensor.dtype, tensor.shape, path);
      const auto sink = [&](std::span<const std::byte> bytes) { file.append(bytes); };
      tensor.write ? tensor.write(sink) : sink(tensor.data);
      ESPALIER_ASSERT(file.size() == end, "'" + tensor.name + "' got too few or too many bytes");
    }
    file.commit();
  }
};

void register_components(espalier::Registrar& registrar) {
  registrar.add<espalier::CheckpointFormat, {{Name}}>("{{name}}", "weights with a line of JSON")
      .serves("files", {"*.{{name}}"})
      .property("writes", "model.{{name}}");
}

}  // namespace

ESPALIER_PLUGIN("{{vendor}}.{{name}}", "0.1.0", register_components)
