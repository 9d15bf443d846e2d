#include "espalier/base/torch_file.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <set>

#include "espalier/base/error.h"
#include "espalier/base/pickle.h"
#include "espalier/base/zip_archive.h"

namespace espalier {
namespace {

using Kind = PickleValue::Kind;

constexpr int kDeepestTable = 8;
constexpr std::uint64_t kNumberBytes = 8;  // before each storage of the older form
/// 0x1950a86a20f9469cfc6c, the first value of the older form, as the digits of a pickled integer.
constexpr std::string_view kMagic{"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 10};
constexpr std::int64_t kOlderProtocol = 1001;
constexpr const char* kHint = "fetch the file again, or the model as safetensors";

/// Storage classes of torch, and its dtypes, which pickles of newer types name.
const std::map<std::string, DType>& types() {
  static const std::map<std::string, DType> kTypes = {{"torch.FloatStorage", DType::kF32},
                                                      {"torch.DoubleStorage", DType::kF64},
                                                      {"torch.HalfStorage", DType::kF16},
                                                      {"torch.BFloat16Storage", DType::kBF16},
                                                      {"torch.LongStorage", DType::kI64},
                                                      {"torch.IntStorage", DType::kI32},
                                                      {"torch.ShortStorage", DType::kI16},
                                                      {"torch.CharStorage", DType::kI8},
                                                      {"torch.ByteStorage", DType::kU8},
                                                      {"torch.BoolStorage", DType::kBool},
                                                      {"torch.ComplexFloatStorage", DType::kC64},
                                                      {"torch.storage.UntypedStorage", DType::kU8},
                                                      {"torch.float32", DType::kF32},
                                                      {"torch.float64", DType::kF64},
                                                      {"torch.float16", DType::kF16},
                                                      {"torch.bfloat16", DType::kBF16},
                                                      {"torch.int64", DType::kI64},
                                                      {"torch.int32", DType::kI32},
                                                      {"torch.int16", DType::kI16},
                                                      {"torch.int8", DType::kI8},
                                                      {"torch.uint8", DType::kU8},
                                                      {"torch.uint16", DType::kU16},
                                                      {"torch.uint32", DType::kU32},
                                                      {"torch.uint64", DType::kU64},
                                                      {"torch.bool", DType::kBool},
                                                      {"torch.complex64", DType::kC64},
                                                      {"torch.float8_e4m3fn", DType::kF8E4M3},
                                                      {"torch.float8_e5m2", DType::kF8E5M2},
                                                      {"torch.float8_e4m3fnuz", DType::kF8E4M3Fnuz},
                                                      {"torch.float8_e5m2fnuz", DType::kF8E5M2Fnuz},
                                                      {"torch.float8_e8m0fnu", DType::kF8E8M0}};
  return kTypes;
}

std::vector<std::string> known_names() {
  std::vector<std::string> names = {"collections.OrderedDict",
                                    "torch._utils._rebuild_tensor",
                                    "torch._utils._rebuild_tensor_v2",
                                    "torch._utils._rebuild_tensor_v3",
                                    "torch._utils._rebuild_parameter",
                                    "torch._utils._rebuild_parameter_with_state",
                                    "torch.Size",
                                    "torch.device"};
  for (const auto& [name, type] : types()) names.push_back(name);
  return names;
}

std::uint64_t element_bytes(DType type) { return static_cast<std::uint64_t>(dtype_bits(type)) / 8; }

/// A run of bytes that tensors are views of.
struct Storage {
  std::uint64_t begin = 0;  ///< in the file
  std::uint64_t size = 0;
};

/// A tensor before its storage was found.
struct View {
  TensorInfo info;
  std::string storage;
  std::uint64_t stated_bytes = 0;  ///< of the storage
  std::uint64_t first = 0;         ///< element
  std::vector<std::int64_t> strides;
};

/// Finds the tensors of an object that was pickled.
class ViewReader {
 public:
  explicit ViewReader(std::string file) : file_(std::move(file)) {}

  std::vector<View> read(const PickleValue& value) {
    if (!value.is(Kind::kDict)) refuse("there is no table of tensors in it", {}, file_);
    const PickleValue* table = &value;
    if (!has_tensors(value)) {
      // A checkpoint of a training program: the model is one entry of it.
      std::vector<std::pair<std::string, const PickleValue*>> inner;
      for_each_entry(value, [&](const std::string& key, const PickleValue& item) {
        if (item.is(Kind::kDict) && has_tensors(item)) inner.emplace_back(key, &item);
      });
      for (const char* usual : {"state_dict", "model", "module"}) {
        for (const auto& [key, item] : inner) {
          if (key == usual && table == &value) table = item;
        }
      }
      if (table == &value && inner.size() == 1) table = inner.front().second;
    }
    collect(*table, "", 0);
    if (views_.empty()) refuse("there is no tensor in it", {}, file_);
    return std::move(views_);
  }

 private:
  [[noreturn]] static void refuse(const std::string& what, const std::string& found,
                                  const std::string& where) {
    throw_bad_input(what, found, "tensors by name, as torch.save writes a state_dict", where,
                    kHint);
  }

  static bool is_tensor(const PickleValue& value) {
    return value.is(Kind::kCall) && value.text.starts_with("torch._utils._rebuild");
  }
  static bool has_tensors(const PickleValue& table) {
    bool found = false;
    for_each_entry(table, [&](const std::string&, const PickleValue& item) {
      found = found || is_tensor(item);
    });
    return found;
  }
  template <class Visit>
  static void for_each_entry(const PickleValue& table, const Visit& visit) {
    for (std::size_t i = 0; i + 1 < table.items.size(); i += 2) {
      if (table.items[i]->is(Kind::kString)) visit(table.items[i]->text, *table.items[i + 1]);
    }
  }

  void collect(const PickleValue& table, const std::string& prefix, int depth) {
    if (depth > kDeepestTable || !visited_.insert(&table).second) return;
    for_each_entry(table, [&](const std::string& key, const PickleValue& item) {
      if (is_tensor(item)) {
        // A key that is set twice has its last value, as in Python.
        const std::string name = prefix + key;
        View view = read_tensor(name, item);
        if (names_.insert(name).second) {
          views_.push_back(std::move(view));
        } else {
          *std::find_if(views_.begin(), views_.end(), [&](const View& other) {
            return other.info.name == name;
          }) = std::move(view);
        }
      } else if (item.is(Kind::kDict)) {
        collect(item, prefix + key + ".", depth + 1);
      }
    });
  }

  std::int64_t count(const PickleValue* value, const std::string& where) const {
    if (!value->is(Kind::kInt) || value->integer < 0)
      refuse("a tensor has a size that is none", {}, where);
    return value->integer;
  }

  std::vector<std::int64_t> counts(const PickleValue& value, const std::string& where) const {
    const PickleValue* list = &value;
    if (value.is(Kind::kCall) && value.text == "torch.Size" && value.items.size() == 1)
      list = value.items.front();
    if (!list->is(Kind::kTuple)) refuse("a tensor has a shape that is none", {}, where);
    std::vector<std::int64_t> result;
    for (const PickleValue* item : list->items) result.push_back(count(item, where));
    return result;
  }

  View read_tensor(const std::string& name, const PickleValue& value) {
    const std::string where = file_ + ", tensor '" + name + "'";
    const PickleValue* tensor = &value;
    if (value.text.find("_parameter") != std::string::npos) {
      if (value.items.empty() || !is_tensor(*value.items.front()))
        refuse("a parameter holds no tensor", {}, where);
      tensor = value.items.front();
    }
    const bool typed = tensor->text.ends_with("_v3");
    if (tensor->items.size() < (typed ? 7U : 4U) || !tensor->items[0]->is(Kind::kPersistent))
      refuse("a tensor is not made of a storage, an offset, a shape and strides", {}, where);
    View view;
    view.info.name = name;
    read_storage(*tensor->items[0], view, where);
    if (typed) view.info.dtype = type_of(*tensor->items[6], where);
    view.first += static_cast<std::uint64_t>(count(tensor->items[1], where));
    view.info.shape = counts(*tensor->items[2], where);
    view.strides = counts(*tensor->items[3], where);
    if (view.strides.size() != view.info.shape.size())
      refuse("shape and strides of a tensor do not fit", {}, where);
    view.info.end = tensor_size_bytes(view.info.dtype, view.info.shape, where);
    return view;
  }

  static DType type_of(const PickleValue& value, const std::string& where) {
    const auto found = value.is(Kind::kGlobal) ? types().find(value.text) : types().end();
    if (found == types().end()) refuse("a tensor is of an unknown type", value.text, where);
    return found->second;
  }

  /// ("storage", type, key, device, elements) and in the older form a view: None or (key, first
  /// element, elements).
  void read_storage(const PickleValue& value, View& view, const std::string& where) {
    const auto& parts = value.items;
    if (parts.size() < 5 || !parts[0]->is(Kind::kString) || parts[0]->text != "storage" ||
        !parts[2]->is(Kind::kString))
      refuse("a tensor has no storage", {}, where);
    view.info.dtype = type_of(*parts[1], where);
    view.storage = parts[2]->text;
    if (__builtin_mul_overflow(static_cast<std::uint64_t>(count(parts[4], where)),
                               element_bytes(view.info.dtype), &view.stated_bytes))
      refuse("a storage is too large", {}, where);
    if (parts.size() > 5 && parts[5]->is(Kind::kTuple) && parts[5]->items.size() == 3) {
      view.first = static_cast<std::uint64_t>(count(parts[5]->items[1], where));
    }
    types_.emplace(view.storage, view.info.dtype);
  }

  std::string file_;
  std::vector<View> views_;
  std::set<std::string> names_;
  std::set<const PickleValue*> visited_;
  std::map<std::string, DType> types_;

 public:
  /// Element type that each storage was saved as.
  const std::map<std::string, DType>& storage_types() const { return types_; }
};

/// What both forms give: the tensors, and where storages lie.
struct Content {
  std::vector<View> views;
  std::map<std::string, Storage> storages;
};

Content read_zip(std::span<const std::byte> bytes, const std::string& path) {
  const ZipArchive archive(bytes, path);
  constexpr std::string_view kPickle = "/data.pkl";
  const auto& entries = archive.entries();
  const auto pickle = std::find_if(entries.begin(), entries.end(), [&](const auto& entry) {
    return entry.first.ends_with(kPickle) &&
           entry.first.find('/') == entry.first.size() - kPickle.size();
  });
  if (pickle == entries.end()) {
    throw_bad_input("this zip archive holds no tensors of torch", {}, "an entry data.pkl", path,
                    kHint);
  }
  const std::string folder = pickle->first.substr(0, pickle->first.size() - kPickle.size() + 1);
  if (const ZipArchive::Entry* order = archive.find(folder + "byteorder")) {
    const auto text = archive.content(*order);
    if (!std::equal(text.begin(), text.end(), std::as_bytes(std::span("little", 6)).begin(),
                    std::as_bytes(std::span("little", 6)).end()))
      throw_bad_input("the tensors are not in little endian order", {}, "little", path, kHint);
  }
  PickleReader reader(archive.content(pickle->second), known_names(), path + " (data.pkl)");
  Content content;
  content.views = ViewReader(path).read(reader.read());
  const std::string data = folder + "data/";
  for (const auto& [name, entry] : entries) {
    if (name.starts_with(data))
      content.storages[name.substr(data.size())] = {entry.begin, entry.size};
  }
  return content;
}

/// Four pickles (magic number, version, sizes of C types, the object), a list of storages, and for
/// each its number of elements and its bytes.
Content read_older(std::span<const std::byte> bytes, const std::string& path) {
  PickleReader reader(bytes, known_names(), path);
  const PickleValue& magic = reader.read();
  if (!magic.is(Kind::kInt) || magic.text != kMagic)
    throw_bad_input("this is no file of torch.save", {}, "its magic number first", path, kHint);
  const PickleValue& version = reader.read();
  if (!version.is(Kind::kInt) || version.integer != kOlderProtocol)
    throw_bad_input("this file is of an unknown version", std::to_string(version.integer),
                    std::to_string(kOlderProtocol), path, kHint);
  const PickleValue& system = reader.read();
  for (std::size_t i = 0; i + 1 < system.items.size(); i += 2) {
    if (system.items[i]->text == "little_endian" && system.items[i + 1]->integer == 0)
      throw_bad_input("the tensors are not in little endian order", {}, "little", path, kHint);
  }
  ViewReader views(path);
  Content content;
  content.views = views.read(reader.read());
  const PickleValue& keys = reader.read();
  std::uint64_t position = reader.position();
  for (const PickleValue* key : keys.items) {
    const auto type = views.storage_types().find(key->text);
    if (bytes.size() - position < kNumberBytes)
      throw_bad_input("the file ends before its tensors", {}, "more bytes", path, kHint);
    std::uint64_t size = 0;
    std::memcpy(&size, bytes.data() + position, sizeof size);
    position += kNumberBytes;
    const std::uint64_t element =
        type == views.storage_types().end() ? 0 : element_bytes(type->second);
    if (element == 0) {
      throw_bad_input("a storage belongs to no tensor that can be read", key->text,
                      "tensors in tables", path, kHint);
    }
    if (size > (bytes.size() - position) / element)
      throw_bad_input("the file ends before its tensors", {}, "more bytes", path, kHint);
    content.storages[key->text] = {position, size * element};
    position += size * element;
  }
  return content;
}

/// Throws unless all elements of the view lie in its storage.
void check_extent(const View& view, const Storage& storage, const std::string& where) {
  const std::uint64_t element = element_bytes(view.info.dtype);
  const std::uint64_t available = storage.size / element;
  std::uint64_t last = view.first;
  bool outside = false;
  for (std::size_t d = 0; d < view.strides.size(); ++d) {
    std::uint64_t reach = 0;
    outside |= __builtin_mul_overflow(static_cast<std::uint64_t>(view.info.shape[d] - 1),
                                      static_cast<std::uint64_t>(view.strides[d]), &reach);
    outside |= __builtin_add_overflow(last, reach, &last);
  }
  if (!outside && last < available) return;
  throw_bad_input("a tensor lies outside of its storage",
                  outside ? "an element beyond 2^64" : "element " + std::to_string(last),
                  "less than " + std::to_string(available), where, kHint);
}

bool is_row_major(const View& view) {
  std::int64_t expected = 1;
  for (std::size_t d = view.strides.size(); d-- > 0;) {
    if (view.info.shape[d] == 1) continue;
    if (view.strides[d] != expected) return false;
    expected *= view.info.shape[d];
  }
  return true;
}

}  // namespace

bool TorchFile::is_torch_file(const std::string& path) {
  const MappedFile file(path);
  const auto starts_with = [&](std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    return file.bytes().size() >= bytes.size() &&
           std::equal(bytes.begin(), bytes.end(), file.bytes().begin());
  };
  return path.ends_with(".bin") || starts_with("PK\x03\x04") || starts_with("\x80\x02");
}

TorchFile::TorchFile(std::string path) : TensorFile(std::move(path)) {
  if (file_.bytes().empty())
    throw_bad_input("the file is empty", "0 bytes", "tensors", file_.path(), kHint);
  const bool zip = file_.bytes().front() == std::byte{'P'};
  Content content =
      zip ? read_zip(file_.bytes(), file_.path()) : read_older(file_.bytes(), file_.path());
  for (View& view : content.views) {
    const std::string where = file_.path() + ", tensor '" + view.info.name + "'";
    Storage storage;
    const bool empty = view.info.end == 0;
    if (const auto found = content.storages.find(view.storage); found != content.storages.end())
      storage = found->second;
    else if (!empty)
      throw_bad_input("the data of a tensor is missing", "no storage '" + view.storage + "'",
                      "a storage of " + std::to_string(view.stated_bytes) + " bytes", where, kHint);
    if (!empty) check_extent(view, storage, where);
    Layout layout{view.strides, storage.begin + view.first * element_bytes(view.info.dtype)};
    if (empty || is_row_major(view)) {
      view.info.begin = empty ? 0 : layout.begin;
      view.info.end += view.info.begin;
    } else {
      scattered_.insert(view.info.name);
    }
    layouts_.emplace(view.info.name, std::move(layout));
    tensors_.push_back(std::move(view.info));
  }
  index_tensors();
}

std::optional<std::span<const std::byte>> TorchFile::gathered(const TensorInfo& tensor) const {
  if (!scattered_.contains(tensor.name)) return std::nullopt;
  const std::lock_guard lock(gathering_);
  const auto [found, inserted] = gathered_.try_emplace(tensor.name);
  std::vector<std::byte>& bytes = found->second;
  if (!inserted) return bytes;
  const Layout& from = layouts_.at(tensor.name);
  const std::uint64_t element = element_bytes(tensor.dtype);
  bytes.resize(tensor.size_bytes());
  std::vector<std::int64_t> index(tensor.shape.size(), 0);
  std::uint64_t offset = 0;  // of the element at `index`, in elements
  for (std::uint64_t out = 0; out < bytes.size(); out += element) {
    std::memcpy(bytes.data() + out, file_.bytes().data() + from.begin + offset * element, element);
    for (std::size_t d = index.size(); d-- > 0;) {
      const auto stride = static_cast<std::uint64_t>(from.strides[d]);
      offset += stride;
      if (++index[d] < tensor.shape[d]) break;
      offset -= stride * static_cast<std::uint64_t>(tensor.shape[d]);
      index[d] = 0;
    }
  }
  return bytes;
}

}  // namespace espalier
