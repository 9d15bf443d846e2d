// Which files a format's manifest entry claims, and checkpoints in a format of a plugin.
#include <gtest/gtest.h>

#include <cstring>

#include "espalier/base/checkpoint_reader.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/served_files.h"
#include "espalier/sdk/checkpoint_format.h"
#include "temporary_folder.h"

namespace espalier {
namespace {

using testing::TemporaryFolder;
using testing::write_fresh;

Table serves(const std::string& pattern, const std::string& magic = {}) {
  Table table;
  table.set("files", Array{pattern});
  if (!magic.empty()) table.set("magic", Array{magic});
  return table;
}

TEST(ServedFiles, FitTheirPatternAndBegin) {
  const TemporaryFolder folder;
  for (const char* name : {"b.npz", "a.npz", "a.npz.txt"})
    write_fresh(folder / name, "PK\x03\x04 and so on");
  write_fresh(folder / "c.npz", "something else");
  std::vector<std::string> names;
  for (const std::string& file : served_files(serves("*.npz", "504b0304"), folder.path()))
    names.push_back(file.substr(file.rfind('/') + 1));
  EXPECT_EQ(names, (std::vector<std::string>{"a.npz", "b.npz"}));
  EXPECT_EQ(served_files(serves("?.npz"), folder.path()).size(), 3U);
}

TEST(ServedFiles, AreNoneOfAFolderThatIsNotThereOrAFormatWithoutFiles) {
  const TemporaryFolder folder;
  write_fresh(folder / "a.npz", "x");
  EXPECT_TRUE(served_files(serves("*"), folder.path() + "/nowhere").empty());
  EXPECT_TRUE(served_files(Table(), folder.path()).empty());
}

/// One float32 tensor a file, named like the file's first byte; its data are all other bytes.
class OneTensorFile final : public TensorFile {
 public:
  explicit OneTensorFile(const std::string& path, std::uint64_t bytes, bool twice)
      : TensorFile(path) {
    data_begin_ = 1;
    TensorInfo tensor;
    tensor.name = std::string(1, static_cast<char>(file_.bytes()[0]));
    tensor.shape = {static_cast<std::int64_t>(bytes / 4)};
    tensor.end = bytes;
    add_tensor(tensor);
    if (twice) add_tensor(tensor);
    index_tensors();
  }
};

struct OneTensorFormat final : CheckpointFormat {
  std::uint64_t bytes = 8;
  bool twice = false;
  std::unique_ptr<TensorFile> open(const std::string& path) const override {
    return std::make_unique<OneTensorFile>(path, bytes, twice);
  }
};

std::string message_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

TEST(CheckpointFormats, ManyFilesAreOneCheckpoint) {
  const TemporaryFolder folder;
  write_fresh(folder / "1", std::string("b") + std::string("\0\0\x80?\0\0\0@", 8));
  write_fresh(folder / "2", "a12345678");
  std::unique_ptr<CheckpointReader> reader;
  {
    const OneTensorFormat format;
    reader = std::make_unique<CheckpointReader>(
        folder.path(), std::vector{folder.path() + "/1", folder.path() + "/2"}, format);
  }
  EXPECT_EQ(reader->names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(reader->path(), folder.path());
  float values[2];
  std::memcpy(values, reader->data("b").data(), sizeof values);
  EXPECT_EQ(values[0], 1.0F);
  EXPECT_EQ(values[1], 2.0F);
  reader->verify();
}

TEST(CheckpointFormats, ATensorInTwoFilesIsRefused) {
  const TemporaryFolder folder;
  write_fresh(folder / "1", "a12345678");
  write_fresh(folder / "2", "a12345678");
  const std::string text = message_of([&] {
    CheckpointReader(folder.path(), {folder.path() + "/1", folder.path() + "/2"},
                     OneTensorFormat());
  });
  EXPECT_NE(text.find("tensor 'a' is in two files"), std::string::npos) << text;
  EXPECT_NE(text.find("/1 and "), std::string::npos) << text;
}

TEST(CheckpointFormats, TensorsLieInsideOfTheFileAndComeOnce) {
  const TemporaryFolder folder;
  write_fresh(folder / "1", "a12345678");
  OneTensorFormat format;
  format.bytes = 12;
  EXPECT_NE(message_of([&] { format.open(folder.path() + "/1"); }).find("the file ends before"),
            std::string::npos);
  format.bytes = 7;
  EXPECT_NE(message_of([&] { format.open(folder.path() + "/1"); }).find("do not fit its dtype"),
            std::string::npos);
  format.bytes = 8;
  format.twice = true;
  EXPECT_NE(message_of([&] { format.open(folder.path() + "/1"); }).find("comes twice"),
            std::string::npos);
}

TEST(CheckpointFormats, AreReadOnlyUnlessTheyWrite) {
  const std::string text = message_of([] { OneTensorFormat().write("x", {}, {}); });
  EXPECT_NE(text.find("is read and not written"), std::string::npos) << text;
}

}  // namespace
}  // namespace espalier
