// Makes chats for fine-tuning from WordNet: "Define the noun "benthos"." and its definition. Each
// word and each meaning is used once, so the held-out chats hold nothing that training has seen.
#include <algorithm>
#include <boost/program_options.hpp>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "tools/wordnet_dictionary.h"

namespace espalier::wordnet {
namespace {

struct Request {
  std::string folder;
  std::string dictionary = "/usr/share/wordnet";
  std::size_t train = 20000;
  std::size_t held_out = 1000;
  std::uint64_t seed = 0;
};

/// SplitMix64 (Steele, Lea, Flood 2014): the standard library's shuffles differ between
/// implementations.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15ULL;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
  }

 private:
  std::uint64_t state_;
};

/// Common words of a few letters to a few words; no names, symbols or numbers.
bool is_sensible(const Definition& definition) {
  const std::string& word = definition.word;
  const bool plain = std::all_of(word.begin(), word.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || c == ' ' || c == '-' || c == '\'';
  });
  return plain && !definition.is_name && word.size() >= 3 && word.size() <= 30 &&
         std::count(word.begin(), word.end(), ' ') <= 2;
}

std::vector<Definition> usable(std::vector<Definition> definitions) {
  std::erase_if(definitions, [](Definition& definition) {
    definition.gloss = clean_gloss(definition.gloss);
    return !is_sensible(definition) || definition.gloss.size() < 10 ||
           definition.gloss.size() > 240;
  });
  return definitions;
}

/// In a random order, each word and each meaning once.
std::vector<Definition> choose(std::vector<Definition> definitions, const Request& request) {
  Random random(request.seed);
  for (std::size_t i = definitions.size(); i > 1; --i)
    std::swap(definitions[i - 1], definitions[random.next() % i]);
  std::set<std::string> lemmas;
  std::set<std::string> synsets;
  std::set<std::string> glosses;
  std::vector<Definition> chosen;
  for (Definition& definition : definitions) {
    if (chosen.size() == request.train + request.held_out) break;
    if (lemmas.contains(definition.lemma) || synsets.contains(definition.synset) ||
        glosses.contains(definition.gloss))
      continue;
    lemmas.insert(definition.lemma);
    synsets.insert(definition.synset);
    glosses.insert(definition.gloss);
    chosen.push_back(std::move(definition));
  }
  if (chosen.size() < request.train + request.held_out) {
    throw_bad_input("the dictionary has too few words",
                    std::to_string(chosen.size()) + " usable words",
                    std::to_string(request.train + request.held_out), request.dictionary,
                    "ask for fewer chats with --train and --held-out");
  }
  return chosen;
}

std::string chat_line(const Definition& definition) {
  const auto message = [](const char* role, const std::string& content) {
    Table table;
    table.set("role", role);
    table.set("content", content);
    return Value(std::move(table));
  };
  Table chat;
  chat.set("messages", Array{message("user", "Define the " + definition.part_of_speech + " \"" +
                                                 definition.word + "\"."),
                             message("assistant", definition.gloss)});
  return dump_json(chat) + "\n";
}

void write_chats(const std::string& path, const Definition* begin, const Definition* end) {
  std::string content;
  for (const Definition* definition = begin; definition != end; ++definition)
    content += chat_line(*definition);
  write_file_atomically(path, content);
  std::printf("%s: %td chats\n", path.c_str(), end - begin);
}

void make_chats(const Request& request) {
  const std::vector<Definition> chosen =
      choose(usable(read_dictionary(request.dictionary)), request);
  std::error_code error;
  std::filesystem::create_directories(request.folder, error);
  if (error) throw_io("create", request.folder, error.value());
  const std::filesystem::path folder(request.folder);
  const Definition* train = chosen.data() + request.held_out;
  write_chats((folder / "held_out.jsonl").string(), chosen.data(), train);
  write_chats((folder / "train.jsonl").string(), train, train + request.train);
}

/// False when help was asked for and printed.
bool parse(int count, char** words, Request& request) {
  namespace po = boost::program_options;
  po::options_description options("Options");
  options.add_options()("help,h", "print this text")(
      "folder", po::value(&request.folder)->required(),
      "folder to write train.jsonl and held_out.jsonl to")(
      "dictionary", po::value(&request.dictionary)->default_value(request.dictionary),
      "folder of WordNet 3's files (Debian: wordnet-base)")(
      "train", po::value(&request.train)->default_value(request.train), "number of training chats")(
      "held-out", po::value(&request.held_out)->default_value(request.held_out),
      "number of chats for validation, of other words and meanings")(
      "seed", po::value(&request.seed)->default_value(request.seed),
      "equal seeds choose equal words");
  po::variables_map values;
  po::store(po::command_line_parser(count, words)
                .options(options)
                .positional(po::positional_options_description().add("folder", 1))
                .run(),
            values);
  if (values.contains("help")) {
    std::puts(
        "Usage: espalier-wordnet-chat FOLDER [OPTIONS]\n\n"
        "Writes chats that ask for definitions of words, in the OpenAI messages format.\n");
    std::string text = (std::ostringstream() << options).str();
    std::fputs(text.c_str(), stdout);
    return false;
  }
  po::notify(values);
  constexpr std::size_t kMost = 1000000;
  if (request.train > kMost || request.held_out > kMost) {
    throw_bad_input("too many chats", std::to_string(std::max(request.train, request.held_out)),
                    "at most " + std::to_string(kMost), "the command line");
  }
  return true;
}

int run(int count, char** words) {
  try {
    Request request;
    if (parse(count, words, request)) make_chats(request);
    return 0;
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return exit_code(error.code());
  } catch (const boost::program_options::error& error) {
    std::fprintf(stderr, "error: %s\n  fix:      see espalier-wordnet-chat --help\n", error.what());
    return exit_code(ErrorCode::kBadInput);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return exit_code(ErrorCode::kInternal);
  }
}

}  // namespace
}  // namespace espalier::wordnet

int main(int count, char** words) { return espalier::wordnet::run(count, words); }
