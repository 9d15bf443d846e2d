// Parquet files of pyarrow, row by row.
#include <gtest/gtest.h>

#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/data/record_files.h"
#include "fixture_path.h"
#include "support/temporary_folder.h"

namespace espalier {
namespace {

using testing::fixture_path;

std::string message_of(const std::string& path) {
  try {
    open_records(path);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

class ParquetFile : public ::testing::TestWithParam<const char*> {};

TEST_P(ParquetFile, RowsAreThoseThatWereWritten) {
  const Value expected = read_json_file(fixture_path("data/parquet/rows.json"));
  const auto records = open_records(fixture_path(std::string("data/parquet/") + GetParam()));
  ASSERT_EQ(records->size(), static_cast<std::int64_t>(expected.as_array().size()));
  for (std::int64_t i = 0; i < records->size(); ++i)
    EXPECT_EQ(records->record(i), expected.as_array()[static_cast<std::size_t>(i)]) << i;
  EXPECT_TRUE(records->where(3).ends_with(":4"));
}

INSTANTIATE_TEST_SUITE_P(Ways, ParquetFile,
                         ::testing::Values("snappy.parquet", "gzip_v2.parquet", "zstd.parquet",
                                           "plain.parquet", "lz4_delta.parquet",
                                           "delta_lengths.parquet"));

TEST(ParquetFiles, WhatIsNotKnownIsRefusedByName) {
  const std::string message = message_of(fixture_path("data/parquet/brotli.parquet"));
  EXPECT_NE(message.find("codec 4"), std::string::npos) << message;
  EXPECT_NE(message.find("pyarrow rewrites it"), std::string::npos) << message;
}

TEST(ParquetFiles, DamagedFilesAreErrorsAndNothingElse) {
  const testing::TemporaryFolder folder;
  const std::string whole = read_file(fixture_path("data/parquet/snappy.parquet"));
  EXPECT_NE(message_of(folder.write("a", whole.substr(0, whole.size() / 2))).find("ends early"),
            std::string::npos);
  std::size_t refused = 0;
  for (std::size_t i = 4; i + 4 < whole.size(); i += 11) {
    std::string broken = whole;
    broken[i] = static_cast<char>(~broken[i]);
    try {
      open_records(folder.write("a", broken));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kBadInput) << i << error.what();
      ++refused;
    }
  }
  EXPECT_GT(refused, 20U);
}

}  // namespace
}  // namespace espalier
