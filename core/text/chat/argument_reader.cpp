#include <algorithm>

#include "text/chat/operations.h"

namespace espalier::text::chat {

ArgumentReader::ArgumentReader(std::string function, const Arguments& arguments,
                               std::initializer_list<std::string_view> names)
    : function_(std::move(function)), names_(names), found_(names.size(), nullptr) {
  if (arguments.positional.size() > names_.size())
    fail("TypeError", function_ + "() takes at most " + std::to_string(names_.size()) +
                          " arguments (" + std::to_string(arguments.positional.size()) + " given)");
  for (std::size_t i = 0; i < arguments.positional.size(); ++i)
    found_[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const auto place = std::find(names_.begin(), names_.end(), name) - names_.begin();
    if (place == static_cast<std::ptrdiff_t>(names_.size()))
      fail("TypeError", function_ + "() got an unexpected keyword argument '" + name + "'");
    if (found_[static_cast<std::size_t>(place)] != nullptr)
      fail("TypeError", function_ + "() got multiple values for argument '" + name + "'");
    found_[static_cast<std::size_t>(place)] = &value;
  }
}

const Item& ArgumentReader::require(std::size_t place) const {
  if (found_[place] == nullptr)
    fail("TypeError", function_ + "() missing 1 required positional argument: '" +
                          std::string(names_[place]) + "'");
  return *found_[place];
}

std::string ArgumentReader::text(std::size_t place) const {
  const Item& item = require(place);
  if (item.is_undefined()) fail_undefined(item);
  if (!item.is_string())
    fail("TypeError", function_ + "() argument must be str, not " + type_name(item));
  return item.as_string();
}

std::string ArgumentReader::text_or(std::size_t place, std::string fallback) const {
  return found_[place] == nullptr ? std::move(fallback) : text(place);
}

std::int64_t ArgumentReader::integer(std::size_t place) const {
  const Item& item = require(place);
  if (item.is_undefined()) fail_undefined(item);
  if (!item.is_integral())
    fail("TypeError", "'" + type_name(item) + "' object cannot be interpreted as an integer");
  return item.as_int();
}

std::int64_t ArgumentReader::integer_or(std::size_t place, std::int64_t fallback) const {
  return found_[place] == nullptr ? fallback : integer(place);
}

bool ArgumentReader::truth_or(std::size_t place, bool fallback) const {
  return found_[place] == nullptr ? fallback : truth(*found_[place]);
}

}  // namespace espalier::text::chat
