// Which files a path means, what is in them, and which part of them a split is.
#include <gtest/gtest.h>

#include <functional>

#include "espalier/base/error.h"
#include "espalier/data/data_file.h"
#include "espalier/data/source_files.h"
#include "espalier/data/split_slice.h"
#include "support/compressed.h"
#include "support/temporary_folder.h"

namespace espalier {
namespace {

using testing::gzipped;
using testing::zstandard;

using Ranges = std::vector<std::pair<std::int64_t, std::int64_t>>;

std::string message_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(DataFiles, CompressedFilesAreReadByTheirContent) {
  const testing::TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 60000; ++i) text += "line " + std::to_string(i * 7919) + "\n";
  const std::string half = text.substr(0, text.size() / 2);
  const std::string rest = text.substr(text.size() / 2);
  for (const std::string& content :
       {text, gzipped(text), zstandard(text), gzipped(half) + gzipped(rest),
        zstandard(half) + zstandard(rest)}) {
    EXPECT_EQ(DataFile(folder.write("data.jsonl", content)).text(), text);
  }
  EXPECT_EQ(DataFile(folder.write("empty", "")).text(), "");
}

TEST(DataFiles, CompressedFilesThatAreCutOrBrokenAreRefused) {
  const testing::TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 5000; ++i) text += std::to_string(i * 7919) + ",";
  for (const std::string& whole : {gzipped(text), zstandard(text)}) {
    const std::string cut = whole.substr(0, whole.size() / 2);
    EXPECT_NE(message_of([&] { DataFile(folder.write("data", cut)); }).find("ends early"),
              std::string::npos);
    std::string broken = whole;
    for (std::size_t i = 20; i < 60; ++i) broken[i] = '\xFF';
    EXPECT_NE(message_of([&] { DataFile(folder.write("data", broken)); }).find("but its data"),
              std::string::npos);
  }
}

TEST(DataFiles, PathsAreFilesPatternsAndFolders) {
  const testing::TemporaryFolder folder;
  std::filesystem::create_directories(folder.file("deep/.hidden"));
  std::filesystem::create_directories(folder.file("s"));
  for (const char* name :
       {"b.jsonl", "a.jsonl.gz", "deep/c.CSV", "deep/.hidden/x.jsonl", "note.bin"})
    folder.write(name, "x");
  const auto names = [&](const std::vector<std::string>& paths,
                         const std::string& split = "train") {
    std::vector<std::string> found;
    for (const std::string& file : find_data_files(paths, split, {".jsonl", ".csv"}))
      found.push_back(file.substr(folder.file("").size()));
    return found;
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(names({folder.file("")}), (Names{"a.jsonl.gz", "b.jsonl", "deep/c.CSV"}));
  EXPECT_EQ(names({folder.file("*.jsonl*")}), (Names{"a.jsonl.gz", "b.jsonl"}));
  EXPECT_EQ(names({folder.file("note.bin"), folder.file("b.jsonl")}),
            (Names{"note.bin", "b.jsonl"}));
  const std::string message = message_of([&] {
    names({folder.file("z*"), folder.file("deep/.hidden/..")});
  });
  EXPECT_NE(message.find("no file fits the pattern"), std::string::npos) << message;
  EXPECT_NE(message_of([&] { names({folder.file("b.jsonl")}, "test"); }).find("only a folder"),
            std::string::npos);

  for (const char* name :
       {"s/train-0.jsonl", "s/train-1.jsonl", "s/my_val.jsonl", "s/constrained.jsonl"})
    folder.write(name, "x");
  EXPECT_EQ(names({folder.file("s")}), (Names{"s/train-0.jsonl", "s/train-1.jsonl"}));
  EXPECT_EQ(names({folder.file("s")}, "validation"), (Names{"s/my_val.jsonl"}));
  EXPECT_NE(message_of([&] { names({folder.file("s")}, "test"); }).find("no file of the split"),
            std::string::npos);
}

TEST(Splits, SlicesAreThoseOfHuggingFace) {
  // Values of datasets.ReadInstruction.
  const auto ranges = [](const std::string& text, std::int64_t size) {
    return SplitSlice::parse(text).ranges(size);
  };
  EXPECT_EQ(ranges("train", 10), (Ranges{{0, 10}}));
  EXPECT_EQ(ranges("train[:10%]", 999), (Ranges{{0, 100}}));
  EXPECT_EQ(ranges("train[50%:]", 5), (Ranges{{2, 5}}));  // 2.5 to even
  EXPECT_EQ(ranges("train[:50%]", 7), (Ranges{{0, 4}}));  // 3.5 to even
  EXPECT_EQ(ranges("train[100:200]", 150), (Ranges{{100, 150}}));
  EXPECT_EQ(ranges("[-5%:]", 200), (Ranges{{190, 200}}));
  EXPECT_EQ(ranges("train[-3:-1]", 10), (Ranges{{7, 9}}));
  EXPECT_EQ(ranges("train[-30:2]", 10), (Ranges{{0, 2}}));
  EXPECT_EQ(ranges("train[10:20%]", 50), (Ranges{{5, 10}}));
  EXPECT_EQ(ranges("train[:1_0]", 50), (Ranges{{0, 10}}));
  EXPECT_EQ(ranges("train[:10%]+train[-10%:]", 20), (Ranges{{0, 2}, {18, 20}}));
  EXPECT_EQ(ranges("train[50%:52%](pct1_dropremainder)", 199), (Ranges{{50, 52}}));
  EXPECT_EQ(SplitSlice::parse("validation[:3]").name, "validation");
  for (const char* wrong :
       {"", "train[", "train[1]", "train[:120%]", "train[a:b]", "train[:10](closest)x",
        "train[:1]+test[:1]", "train[:%]", "train[1:2](pct1_dropremainder)"})
    EXPECT_NE(message_of([&] { SplitSlice::parse(wrong); }), "no error") << wrong;
  EXPECT_NE(message_of([&] { ranges("train[5:5]", 10); }).find("no samples"), std::string::npos);
}

}  // namespace
}  // namespace espalier
