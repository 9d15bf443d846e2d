// Functions that every template can call.
#include <ctime>
#include <map>

#include "text/chat/limits.h"
#include "text/chat/operations.h"

namespace espalier::text::chat {
namespace {

Item range_function(const Arguments& arguments) {
  const ArgumentReader reader("range", arguments, {"start", "stop", "step"});
  const bool single = reader.find(1) == nullptr;
  const std::int64_t start = single ? 0 : reader.integer(0);
  return make_range(start, reader.integer(single ? 0 : 1), reader.integer_or(2, 1));
}

/// Fills `out` as Python's dict(...) does.
void fill_dict(Dict& out, const Arguments& arguments) {
  if (arguments.positional.size() > 1)
    fail("TypeError",
         "dict expected at most 1 argument, got " + std::to_string(arguments.positional.size()));
  if (!arguments.positional.empty()) {
    const Item& source = arguments.positional[0];
    if (source.is(Kind::kDict)) {
      for (const auto& [key, value] : source.as<Dict>().entries) out.set(key, value);
    } else {
      for (const Item& pair : iterate(source)) {
        const Items parts = iterate(pair);
        if (parts.size() != 2)
          fail("ValueError", "dictionary update sequence element has length " +
                                 std::to_string(parts.size()) + "; 2 is required");
        check_hashable(parts[0]);
        out.set(parts[0], parts[1]);
      }
    }
  }
  for (const auto& [name, value] : arguments.named) out.set(Item(name), value);
}

Item make_dict(const Arguments& arguments) {
  auto dict = std::make_shared<Dict>();
  fill_dict(*dict, arguments);
  return dict;
}

Item make_namespace(const Arguments& arguments) {
  auto space = std::make_shared<Namespace>();
  fill_dict(space->attributes, arguments);
  return space;
}

Item make_cycler(const Arguments& arguments) {
  if (arguments.positional.empty()) fail("RuntimeError", "at least one item has to be provided");
  struct State {
    Items items;
    std::size_t place = 0;
  };
  const auto state = std::make_shared<State>(State{arguments.positional});
  const auto cycler = std::make_shared<Function>("Cycler", [](const Arguments&) -> Item {
    fail("TypeError", "'Cycler' object is not callable");
  });
  const std::weak_ptr<Function> weak = cycler;  // its functions must not keep it alive
  const auto show_current = [state, weak] {
    if (const auto self = weak.lock()) self->attributes[0].second = state->items[state->place];
  };
  cycler->attributes.emplace_back("current", state->items[0]);
  cycler->attributes.emplace_back("next",
                                  make_function("next", [state, show_current](const Arguments&) {
                                    Item item = state->items[state->place];
                                    state->place = (state->place + 1) % state->items.size();
                                    show_current();
                                    return item;
                                  }));
  cycler->attributes.emplace_back("reset",
                                  make_function("reset", [state, show_current](const Arguments&) {
                                    state->place = 0;
                                    show_current();
                                    return Item();
                                  }));
  return cycler;
}

Item make_joiner(const Arguments& arguments) {
  const ArgumentReader reader("joiner", arguments, {"sep"});
  const auto used = std::make_shared<bool>(false);
  const Item separator = reader.find(0) == nullptr ? Item(", ") : *reader.find(0);
  return make_function("joiner", [used, separator](const Arguments&) {
    return std::exchange(*used, true) ? separator : Item("");
  });
}

Item raise_exception(const Arguments& arguments) {
  const ArgumentReader reader("raise_exception", arguments, {"message"});
  fail("TemplateError", to_str(reader.require(0)));
}

Item strftime_now(const Arguments& arguments) {
  const std::string format = ArgumentReader("strftime_now", arguments, {"format"}).text(0);
  if (format.empty()) return "";
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  localtime_r(&now, &parts);
  std::string out(format.size() * 32 + 64, '\0');
  out.resize(std::strftime(out.data(), out.size(), format.c_str(), &parts));
  return out;
}

}  // namespace

Item make_range(std::int64_t start, std::int64_t stop, std::int64_t step) {
  if (step == 0) fail("ValueError", "range() arg 3 must not be zero");
  std::string shown = "range(" + std::to_string(start) + ", " + std::to_string(stop);
  shown += step == 1 ? ")" : ", " + std::to_string(step) + ")";
  Items items;
  for (std::int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (static_cast<std::int64_t>(items.size()) == kLongestRange)
      fail("OverflowError", "Range too big. The sandbox blocks ranges larger than MAX_RANGE (" +
                                std::to_string(kLongestRange) + ").");
    items.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  Meter::charge(items.size());
  auto range = std::make_shared<Sequence>(Kind::kRange, std::move(items), std::move(shown));
  range->start = start;
  range->step = step;
  return range;
}

std::optional<Item> find_global(std::string_view name) {
  using Body = Item (*)(const Arguments&);
  static const std::map<std::string, Body, std::less<>> kGlobals = {
      {"range", range_function},      {"dict", make_dict},     {"namespace", make_namespace},
      {"cycler", make_cycler},        {"joiner", make_joiner}, {"raise_exception", raise_exception},
      {"strftime_now", strftime_now},
  };
  const auto found = kGlobals.find(name);
  if (found == kGlobals.end()) return std::nullopt;
  return make_function(found->first, found->second);
}

}  // namespace espalier::text::chat
