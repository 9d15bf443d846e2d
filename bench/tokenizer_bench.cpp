// tokenizer_bench FOLDER TEXT_FILE: a line of JSON with megabytes a second of encode(), the number
// of ids and their digest; bench/tokenizer_speed.py compares it with the tokenizers package.
#include <chrono>
#include <cstdio>
#include <exception>
#include <span>

#include "espalier/base/file.h"
#include "espalier/base/sha256.h"
#include "text/tokenizer_loader.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("usage: tokenizer_bench FOLDER TEXT_FILE\n", stderr);
    return 2;
  }
  try {
    using Clock = std::chrono::steady_clock;
    const auto seconds = [](Clock::duration d) { return std::chrono::duration<double>(d).count(); };
    const auto start = Clock::now();
    const auto tokenizer = espalier::text::load_tokenizer(argv[1]);
    const double load = seconds(Clock::now() - start);
    const std::string text = espalier::read_file(argv[2]);
    double best = 1e9;
    double first = 0;
    double offsets = 1e9;
    std::vector<std::int32_t> ids;
    for (int round = 0; round < 7; ++round) {
      auto begin = Clock::now();
      ids = tokenizer->encode(text, true);
      const double taken = seconds(Clock::now() - begin);
      if (round == 0) first = taken;
      best = taken < best ? taken : best;
      begin = Clock::now();
      tokenizer->encode_with_offsets(text, true);
      const double with_offsets = seconds(Clock::now() - begin);
      offsets = with_offsets < offsets ? with_offsets : offsets;
    }
    const double megabytes = static_cast<double>(text.size()) / 1e6;
    std::printf(
        "{\"load_ms\": %.2f, \"first_mb_per_s\": %.1f, \"mb_per_s\": %.1f, "
        "\"with_offsets_mb_per_s\": %.1f, \"ids\": %zu, \"ids_sha256\": \"%s\"}\n",
        load * 1e3, megabytes / first, megabytes / best, megabytes / offsets, ids.size(),
        espalier::sha256(std::as_bytes(std::span(ids))).c_str());
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
