#include "report/block_statistics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <set>

#include "espalier/base/json.h"

namespace espalier::report {
namespace {

struct Quantity {
  const char* group;
  const char* name;
};
constexpr std::array kQuantities = {
    Quantity{"gradients", "norm"},  Quantity{"gradients", "max"},
    Quantity{"gradients", "zeros"}, Quantity{"activations", "rms"},
    Quantity{"activations", "max"}, Quantity{"activations", "zeros"}};

const Value* inside(const Value* table, const std::string& key) {
  return table != nullptr ? table->find(key) : nullptr;
}

/// Every block of the lines, which name theirs in the model's order: what an earlier line lacks
/// comes after the block that is before it.
std::vector<std::string> blocks_of(const Array& lines) {
  std::vector<std::string> blocks;
  std::set<std::string> known;
  for (const char* group : {"gradients", "activations"}) {
    for (const Value& line : lines) {
      const Value* entries = line.find(group);
      if (entries == nullptr || !entries->is_table()) continue;
      const std::string* previous = nullptr;
      for (const auto& [block, entry] : entries->as_table()) {
        if (known.insert(block).second) {
          blocks.insert(previous == nullptr
                            ? blocks.begin()
                            : std::next(std::find(blocks.begin(), blocks.end(), *previous)),
                        block);
        }
        previous = &block;
      }
    }
  }
  return blocks;
}

std::string number_or_null(const Value* value, int digits) {
  if (value == nullptr || !value->is_number() || !std::isfinite(value->as_float())) return "null";
  char text[32];
  std::snprintf(text, sizeof text, "%.*g", digits, value->as_float());
  return text;
}

template <class Get>
std::string joined(std::size_t count, const Get& get) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i) text += (i > 0 ? "," : "") + get(i);
  return "[" + text + "]";
}

std::string of_run(std::size_t run, const Array& lines, std::size_t numbers) {
  const std::vector<std::string> blocks = blocks_of(lines);
  std::vector<Quantity> quantities;
  for (const Quantity& one : kQuantities) {
    const bool has = std::any_of(lines.begin(), lines.end(), [&](const Value& line) {
      return line.find(one.group) != nullptr;
    });
    if (has) quantities.push_back(one);
  }
  if (blocks.empty()) return {};
  const std::size_t most = std::max<std::size_t>(
      2, numbers / std::max<std::size_t>(1, blocks.size() * quantities.size()));
  std::vector<const Value*> kept;
  for (std::size_t i = 0; i < std::min(most, lines.size()); ++i) {
    const std::size_t place = lines.size() <= most ? i : i * (lines.size() - 1) / (most - 1);
    kept.push_back(&lines[place]);
  }
  return "{\"run\":" + std::to_string(run) + ",\"of\":" + std::to_string(lines.size()) +
         ",\"steps\":" +
         joined(kept.size(),
                [&](std::size_t i) { return number_or_null(kept[i]->find("step"), 15); }) +
         ",\"blocks\":" +
         joined(blocks.size(), [&](std::size_t i) { return dump_json(Value(blocks[i])); }) +
         ",\"quantities\":" +
         joined(
             quantities.size(),
             [&](std::size_t q) {
               const Quantity& one = quantities[q];
               return "{\"key\":\"" + std::string(one.group) + "." + one.name + "\",\"values\":" +
                      joined(blocks.size(),
                             [&](std::size_t b) {
                               return joined(kept.size(), [&](std::size_t i) {
                                 const Value* entry = inside(inside(kept[i], one.group), blocks[b]);
                                 return number_or_null(inside(entry, one.name), 4);
                               });
                             }) +
                      "}";
             }) +
         "}";
}

}  // namespace

std::string block_statistics(const std::vector<RunRecords>& runs, std::size_t numbers) {
  std::string text;
  for (std::size_t run = 0; run < runs.size(); ++run) {
    const std::string one = of_run(run, runs[run].read_statistics(), numbers / runs.size());
    if (!one.empty()) text += (text.empty() ? "\n" : ",\n") + one;
  }
  return "[" + text + "]";
}

}  // namespace espalier::report
