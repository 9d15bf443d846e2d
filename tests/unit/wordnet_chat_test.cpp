#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>

#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "temporary_folder.h"
#include "tools/wordnet_dictionary.h"

namespace espalier::wordnet {
namespace {

TEST(CleanGloss, DropsExampleSentences) {
  EXPECT_EQ(clean_gloss("settle by concession  "), "settle by concession");
  EXPECT_EQ(clean_gloss("obstruct a discussion; \"they; stalled\" "), "obstruct a discussion");
  EXPECT_EQ(clean_gloss("make into knots;  make knots; \"Knot it!\"; \"a\"- Poe"),
            "make into knots; make knots");
  EXPECT_EQ(clean_gloss("(botany) of a leaf: \"a leaf\""), "(botany) of a leaf");
}

TEST(CleanGloss, GivesUpWhereQuotesBelongToTheDefinition) {
  EXPECT_EQ(clean_gloss("the word \"the\" or \"a\""), "");
  EXPECT_EQ(clean_gloss("\"only an example\""), "");
  EXPECT_EQ(clean_gloss("a (broken"), "");
  EXPECT_EQ(clean_gloss(""), "");
}

/// A dictionary of nouns "word aa", "word ab", ... where each meaning has two words, and a few that
/// no chat should use.
class Dictionary : public ::testing::Test {
 protected:
  Dictionary() {
    for (const char* part : {"noun", "verb", "adj", "adv"}) {
      index_[part] = data_[part] = "  1 the licence  \n";
    }
    for (char a = 'a'; a < 'k'; ++a) {
      const std::string pair = {a, a};
      add("noun", {"word_" + pair, "term_" + pair}, "", "the meaning of " + pair + "; \"see\"");
    }
    add("noun", {"Paris"}, "001 @i 00000001 n 0000", "the capital of France");
    add("adj", {"galore(ip)"}, "000", "existing in abundance; \"whiskey galore\"");
    for (const auto& [part, content] : index_) {
      write_file_atomically(folder_ / ("index." + part), content);
      write_file_atomically(folder_ / ("data." + part), data_[part]);
    }
  }

  void add(const std::string& part, const std::vector<std::string>& words,
           const std::string& pointers, const std::string& gloss) {
    char offset[16];
    std::snprintf(offset, sizeof offset, "%08zu", data_[part].size());
    std::string line = std::string(offset) + " 03 n 0" + std::to_string(words.size());
    for (const std::string& word : words) {
      line += " " + word + " 0";
      std::string lemma = word.substr(0, word.find('('));
      for (char& c : lemma) c = static_cast<char>(std::tolower(c));
      index_[part] += lemma + " n 1 1 @ 1 0 " + offset + "  \n";
    }
    data_[part] += line + " " + (pointers.empty() ? "000" : pointers) + " | " + gloss + "  \n";
  }

  int run(const std::string& arguments) const {
    const std::string program = WORDNET_CHAT_PROGRAM;
    const int status =
        std::system((program + " " + arguments + " >" + (out_ / "log") + " 2>&1").c_str());
    return WEXITSTATUS(status);
  }

  testing::TemporaryFolder folder_;
  testing::TemporaryFolder out_;
  std::map<std::string, std::string> index_;
  std::map<std::string, std::string> data_;
};

TEST_F(Dictionary, IsReadWithTheSpellingOfTheWords) {
  const std::vector<Definition> found = read_dictionary(folder_.path());
  EXPECT_EQ(found.size(), 22U);
  EXPECT_EQ(found.front().word, "galore");
  EXPECT_EQ(found.front().part_of_speech, "adjective");
  EXPECT_EQ(found[1].word, "Paris");
  EXPECT_TRUE(found[1].is_name);
  EXPECT_EQ(found.back().word, "word jj");
  EXPECT_EQ(found.back().gloss, "the meaning of jj; \"see\"  ");
}

TEST_F(Dictionary, IsRefusedWhenDamaged) {
  write_file_atomically(folder_ / "index.adv", "often r 1 0 1 1 99999999  \n");
  EXPECT_THROW(read_dictionary(folder_.path()), Error);
  write_file_atomically(folder_ / "index.adv", "often r x\n");
  EXPECT_THROW(read_dictionary(folder_.path()), Error);
  std::filesystem::remove(folder_ / "index.adv");
  EXPECT_THROW(read_dictionary(folder_.path()), Error);
}

TEST_F(Dictionary, BecomesChatsWithoutOverlap) {
  const std::string arguments = " --dictionary " + folder_.path() + " --train 8 --held-out 3";
  ASSERT_EQ(run(out_.path() + arguments), 0) << read_file(out_ / "log");
  std::set<std::string> questions;
  std::set<std::string> answers;
  for (const auto& [name, count] : {std::pair("train.jsonl", 8), std::pair("held_out.jsonl", 3)}) {
    const std::string content = read_file(out_ / name);
    int lines = 0;
    for (std::size_t begin = 0; begin < content.size(); ++lines) {
      const std::size_t end = content.find('\n', begin);
      const Value chat = parse_json(std::string_view(content).substr(begin, end - begin));
      const Array& messages = chat.find("messages")->as_array();
      EXPECT_EQ(messages.at(0).find("role")->as_string(), "user");
      EXPECT_EQ(messages.at(1).find("role")->as_string(), "assistant");
      questions.insert(messages.at(0).find("content")->as_string());
      answers.insert(messages.at(1).find("content")->as_string());
      begin = end + 1;
    }
    EXPECT_EQ(lines, count);
  }
  EXPECT_EQ(questions.size(), 11U);
  EXPECT_EQ(answers.size(), 11U) << "a meaning is used once";
  EXPECT_TRUE(questions.contains("Define the adjective \"galore\"."));
}

TEST_F(Dictionary, GivesEqualChatsForEqualSeeds) {
  const std::string arguments =
      " --dictionary " + folder_.path() + " --train 6 --held-out 2 --seed ";
  for (const char* name : {"a", "b"}) ASSERT_EQ(run((out_ / name) + arguments + "7"), 0);
  ASSERT_EQ(run((out_ / "c") + arguments + "8"), 0);
  const std::string first = read_file(out_ / "a/train.jsonl");
  EXPECT_EQ(first, read_file(out_ / "b/train.jsonl"));
  EXPECT_NE(first, read_file(out_ / "c/train.jsonl"));
}

TEST_F(Dictionary, SaysWhatIsMissing) {
  EXPECT_EQ(run(out_.path() + " --dictionary /nowhere"), exit_code(ErrorCode::kIo));
  EXPECT_NE(read_file(out_ / "log").find("apt-get install wordnet-base"), std::string::npos);
  EXPECT_EQ(run(out_.path() + " --dictionary " + folder_.path()), exit_code(ErrorCode::kBadInput));
  EXPECT_NE(read_file(out_ / "log").find("too few words"), std::string::npos);
  EXPECT_EQ(run(""), exit_code(ErrorCode::kBadInput));
  EXPECT_EQ(run("--help"), 0);
}

}  // namespace
}  // namespace espalier::wordnet
