// A tokenizer.json of a stranger: refused with an Error, or any text becomes ids and text again.
#include <cstdio>
#include <filesystem>
#include <string>

#include "espalier/base/error.h"
#include "text/tokenizer_loader.h"

namespace {

/// A folder in memory for the one file that each input is.
const std::string& folder() {
  static const std::string path = [] {
    std::string name = "/dev/shm/espalier_fuzz_XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    static std::string made;
    made = name;
    std::atexit([] { std::filesystem::remove_all(made); });
    return name;
  }();
  return path;
}

constexpr const char* kTexts[] = {
    "Hello world, it's 1,234.5!",
    "  caf\xC3\xA9 \xE4\xB8\xAD\xE6\x96\x87 \xF0\x9F\x99\x82\xE2\x80\x8D ",
    "<s> a</s>\n\t\xFF\xC3(\xE2\x96\x81", ""};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::FILE* file = std::fopen((folder() + "/tokenizer.json").c_str(), "wb");
  if (file == nullptr) std::abort();
  std::fwrite(data, 1, size, file);
  std::fclose(file);
  try {
    const auto tokenizer = espalier::text::load_tokenizer(folder());
    for (const char* text : kTexts) {
      const auto ids = tokenizer->encode(text, true);
      tokenizer->encode_with_offsets(text, false);
      tokenizer->encode_pair(text, "b", true);
      tokenizer->decode(ids, false);
    }
  } catch (const espalier::Error& error) {
    if (error.code() == espalier::ErrorCode::kInternal) std::abort();
  }
  return 0;
}
