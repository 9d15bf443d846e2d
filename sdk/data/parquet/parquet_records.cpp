#include "parquet_records.h"

#include <cstring>
#include <vector>

#include "column.h"
#include "encoding.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/data/json_records.h"
#include "thrift.h"

namespace espalier::parquet {
namespace {

constexpr std::string_view kMagic = "PAR1";
constexpr std::size_t kFooterBytes = 8;  // length of the description, and the magic again

enum Repetition : std::int64_t { kRequired = 0, kOptional = 1, kRepeated = 2 };

/// A node of the schema, with the levels at which it is there.
struct Node {
  std::string name;
  std::int64_t repetition = kRequired;
  bool is_list = false;
  bool is_map = false;
  int definition = 0;
  int repetition_level = 0;
  std::size_t first_leaf = 0;  ///< leaves below it are [first_leaf, last_leaf)
  std::size_t last_leaf = 0;
  std::vector<Node> children;  ///< none: a leaf
};

/// Makes the tree out of parquet.thrift's flat list of SchemaElement.
class SchemaReader {
 public:
  explicit SchemaReader(const std::vector<ThriftValue>& elements) : elements_(elements) {}

  Node read() { return read_node(0, 0, 0); }
  std::vector<ColumnType> types() && { return std::move(types_); }

 private:
  Node read_node(int definition, int repetition, int depth) {
    constexpr int kMostDepth = 64;
    if (next_ >= elements_.size() || depth > kMostDepth) refuse("its schema is broken");
    const ThriftValue& element = elements_[next_++];
    Node node;
    node.name = std::string(element.field(4).bytes);
    // The root has no repetition.
    node.repetition = depth == 0 ? std::int64_t{kRequired} : element.field(3).number;
    node.definition = definition + (node.repetition == kRequired ? 0 : 1);
    node.repetition_level = repetition + (node.repetition == kRepeated ? 1 : 0);
    const std::int64_t converted = element.has(6) ? element.field(6).number : -1;
    node.is_list = converted == 3 || element.field(10).has(3);
    node.is_map = converted == 1 || converted == 2 || element.field(10).has(2);
    node.first_leaf = types_.size();
    const std::int64_t children = element.field(5).number;
    for (std::int64_t i = 0; i < children; ++i)
      node.children.push_back(read_node(node.definition, node.repetition_level, depth + 1));
    if (children == 0)
      types_.push_back({element.field(1).number, element.field(2).number, node.definition,
                        node.repetition_level});
    node.last_leaf = types_.size();
    return node;
  }

  const std::vector<ThriftValue>& elements_;
  std::size_t next_ = 0;
  std::vector<ColumnType> types_;
};

/// Puts records together out of the columns of a row group.
class Assembler {
 public:
  explicit Assembler(std::vector<Column> columns)
      : columns_(std::move(columns)), entry_(columns_.size(), 0), value_(columns_.size(), 0) {}

  Value assemble(const Node& node) {
    if (node.repetition != kRepeated) return assemble_one(node);
    return assemble_repeated(node);
  }

 private:
  bool is_there(const Node& node) const {
    const Column& column = columns_[node.first_leaf];
    const std::size_t entry = entry_[node.first_leaf];
    if (entry >= column.definition.size()) refuse("a column has fewer values than rows");
    return column.definition[entry] >= static_cast<std::uint32_t>(node.definition);
  }

  /// Passes over the entries that stand for a part that is not there.
  void skip(const Node& node) {
    for (std::size_t leaf = node.first_leaf; leaf < node.last_leaf; ++leaf) ++entry_[leaf];
  }

  Value assemble_one(const Node& node) {
    if (!is_there(node)) {
      skip(node);
      return {};
    }
    if (node.children.empty()) {
      Column& column = columns_[node.first_leaf];
      ++entry_[node.first_leaf];
      const std::size_t value = value_[node.first_leaf]++;
      if (value >= column.values.size()) refuse("a column has fewer values than rows");
      return std::move(column.values[value]);
    }
    const bool wraps = node.children.size() == 1 && node.children[0].repetition == kRepeated;
    if (node.is_list && wraps) return assemble_list(node.children[0]);
    if (node.is_map && wraps) return assemble_map(node.children[0]);
    return assemble_group(node);
  }

  Value assemble_group(const Node& node) {
    Table table;
    for (const Node& child : node.children) table.set(child.name, assemble(child));
    return table;
  }

  /// Items of a repeated node as they are.
  Value assemble_repeated(const Node& node) {
    Array items;
    if (!is_there(node)) {
      skip(node);
      return items;
    }
    Node item = node;
    item.repetition = kRequired;
    do {
      items.push_back(assemble_one(item));
    } while (repeats(node));
    return items;
  }

  bool repeats(const Node& node) const {
    const Column& column = columns_[node.first_leaf];
    const std::size_t entry = entry_[node.first_leaf];
    return entry < column.repetition.size() &&
           column.repetition[entry] == static_cast<std::uint32_t>(node.repetition_level);
  }

  /// A list is written as group { repeated group list { element } }, by older writers without the
  /// inner group.
  Value assemble_list(const Node& repeated) {
    Value items = assemble_repeated(repeated);
    if (repeated.children.size() != 1 || repeated.name == "array" ||
        repeated.name.ends_with("_tuple"))
      return items;
    for (Value& item : items.as_array()) {
      Value inner = std::move(*item.as_table().find(repeated.children[0].name));
      item = std::move(inner);
    }
    return items;
  }

  Value assemble_map(const Node& repeated) {
    Value pairs = assemble_repeated(repeated);
    Table table;
    for (Value& pair : pairs.as_array()) {
      if (!pair.is_table() || repeated.children.size() != 2) return pairs;
      const Value* key = pair.find(repeated.children[0].name);
      if (!key->is_string()) return pairs;
      table.set(key->as_string(), *pair.find(repeated.children[1].name));
    }
    return table;
  }

  std::vector<Column> columns_;
  std::vector<std::size_t> entry_;  ///< next one, by column
  std::vector<std::size_t> value_;
};

class ParquetRecords final : public RecordSource {
 public:
  explicit ParquetRecords(const DataFile& file) : path_(file.path()) {
    try {
      read(file.text());
    } catch (const Error& error) {
      throw at_place(error, path_);
    }
    if (records_.empty())
      throw_bad_input("the file has no records", "0 rows", "at least one row", path_);
  }

  std::int64_t size() const override { return static_cast<std::int64_t>(records_.size()); }
  Value record(std::int64_t index) const override {
    return parse_record(records_[static_cast<std::size_t>(index)], path_,
                        static_cast<std::size_t>(index) + 1);
  }
  std::string where(std::int64_t index) const override {
    return path_ + ":" + std::to_string(index + 1);
  }

 private:
  void read(std::string_view bytes) {
    if (bytes.size() < kMagic.size() + kFooterBytes || !bytes.ends_with(kMagic))
      refuse("it ends early", std::to_string(bytes.size()) + " bytes", "PAR1 at its end");
    std::string_view footer = bytes.substr(bytes.size() - kFooterBytes);
    const std::uint32_t length = take_u32(footer);
    if (length > bytes.size() - kMagic.size() - kFooterBytes) refuse("its description is broken");
    std::string_view description = bytes.substr(bytes.size() - kFooterBytes - length, length);
    const ThriftValue meta = read_thrift(description);
    SchemaReader schema(meta.field(2).list);
    const Node root = schema.read();
    const std::vector<ColumnType> types = std::move(schema).types();
    for (const ThriftValue& group : meta.field(4).list) read_group(bytes, group, root, types);
  }

  void read_group(std::string_view bytes, const ThriftValue& group, const Node& root,
                  const std::vector<ColumnType>& types) {
    const std::vector<ThriftValue>& chunks = group.field(1).list;
    if (chunks.size() != types.size()) refuse("a row group has another number of columns");
    std::vector<Column> columns;
    for (std::size_t i = 0; i < chunks.size(); ++i)
      columns.push_back(read_column(bytes, chunks[i].field(3), types[i]));
    Assembler assembler(std::move(columns));
    for (std::int64_t row = 0; row < group.field(3).number; ++row)
      records_.push_back(dump_json(assembler.assemble(root)));
  }

  std::string path_;
  std::vector<std::string> records_;
};

}  // namespace

bool is_parquet(std::string_view bytes) { return bytes.starts_with(kMagic); }

std::shared_ptr<const RecordSource> open_parquet_records(const DataFile& file) {
  return std::make_shared<ParquetRecords>(file);
}

}  // namespace espalier::parquet
