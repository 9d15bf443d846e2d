#include <algorithm>
#include <cstdio>
#include <functional>
#include <optional>

#include "engine/commands/engine_command.h"
#include "engine/generate/answer_text.h"
#include "engine/generate/generation_request.h"
#include "engine/generate/prompt_file.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"

namespace espalier {
namespace {

constexpr std::int64_t kBatch = 8;  // prompts side by side, unless --batch-size says otherwise

std::vector<std::int64_t> ids_of(const Value& list) {
  std::vector<std::int64_t> ids;
  for (const Value& id : list.as_array()) ids.push_back(id.as_int());
  return ids;
}

/// A line of --prompts.
std::vector<std::int64_t> prompt_of(const GenerationRequest& request, const Value& line) {
  if (const Value* text = line.find("prompt")) return request.encode(text->as_string());
  if (const Value* ids = line.find("prompt_ids")) return ids_of(*ids);
  if (const Value* messages = line.find("messages")) return request.encode_chat(*messages);
  throw_bad_input("a line of the prompts has no prompt", dump_json(line),
                  "prompt, prompt_ids or messages", line.position().to_string());
}

/// The adapter that a line of --prompts chooses; "" for the model alone.
std::string adapter_of(const GenerationRequest& request, const Value& line) {
  const Value* name = line.find("adapter");
  if (name == nullptr || name->is_null()) return {};
  if (request.has_named_adapters() && name->is_string()) return name->as_string();
  throw_bad_input("a line of the prompts chooses an adapter", dump_json(*name),
                  "the name of one that --adapter NAME=DIR gives", line.position().to_string());
}

std::vector<std::int64_t> read_prompt(const EngineCall& call, const GenerationRequest& request) {
  if (const Value& ids = call.option("prompt-ids"); !ids.is_null()) return ids_of(ids);
  if (!call.option("messages").is_null())
    return request.encode_chat(read_json_file(call.text("messages")));
  return request.encode(call.text("prompt"));
}

/// Answers with their texts, which grow while they are written.
class AnswerWriter {
 public:
  using Show = std::function<void(std::size_t answer, const std::string& piece)>;

  AnswerWriter(const GenerationRequest& request, std::size_t answers, Show show = {})
      : has_text_(request.tokenizer() != nullptr), show_(std::move(show)) {
    for (std::size_t i = 0; has_text_ && i < answers; ++i)
      texts_.emplace_back(request.tokenizer(), request.stops());
  }

  bool push(std::size_t answer, std::int64_t id) {
    if (!has_text_) return true;
    show(answer, texts_[answer].push(id));
    return !texts_[answer].stopped();
  }
  /// {"ids", "text", "ending", ...} of an answer that is complete.
  Table finish(std::size_t number, const Answer& answer, const GenerateOptions& options) {
    Array ids;
    for (const std::int64_t id : answer.ids) ids.emplace_back(id);
    Table result;
    result.set("ids", std::move(ids));
    if (has_text_) show(number, texts_[number].finish());
    const bool stopped = has_text_ && texts_[number].stopped();
    result.set("text", has_text_ ? texts_[number].text() : std::string());
    result.set("ending", stopped                            ? "stop"
                         : answer.ending == Ending::kStopId ? "end_of_text"
                                                            : "length");
    if (options.num_beams > 1) result.set("score", answer.score);
    if (options.log_probabilities) {
      Array list;
      for (const double value : answer.log_probabilities) list.emplace_back(value);
      result.set("log_probabilities", std::move(list));
    }
    return result;
  }

 private:
  void show(std::size_t answer, const std::string& piece) {
    if (show_ && !piece.empty()) show_(answer, piece);
  }

  bool has_text_;
  Show show_;
  std::vector<AnswerText> texts_;
};

/// Runs prompts side by side; the answers of the first prompt come first.
std::vector<Table> answer_prompts(const GenerationRequest& request, TextRunner& runner,
                                  const std::vector<std::vector<std::int64_t>>& prompts,
                                  std::uint64_t first_prompt, AnswerWriter::Show show = {}) {
  GenerateOptions options = request.options();
  options.first_prompt = first_prompt;
  AnswerWriter writer(request, prompts.size() * static_cast<std::size_t>(options.num_answers),
                      std::move(show));
  const std::vector<Answer> answers = generate_answers(
      runner, prompts, options,
      [&](std::size_t answer, std::int64_t id) { return writer.push(answer, id); });
  std::vector<Table> tables;
  for (std::size_t i = 0; i < answers.size(); ++i)
    tables.push_back(writer.finish(i, answers[i], options));
  return tables;
}

/// Each line of --prompts with its "answers", in the order of the file.
int answer_file(const EngineCall& call, GenerationRequest& request) {
  const Array lines = read_prompt_lines(call.text("prompts"));
  std::vector<std::vector<std::int64_t>> prompts;
  std::vector<std::string> adapters;
  for (const Value& line : lines) {
    prompts.push_back(prompt_of(request, line));
    adapters.push_back(adapter_of(request, line));
    if (!adapters.back().empty())
      request.use_adapter(adapters.back(), line.position().to_string());  // it is there
  }
  const Value& size = call.option("batch-size");
  const auto batch = static_cast<std::size_t>(size.is_null() ? kBatch : size.as_int());
  const std::string output = call.text("output");
  std::string written;
  std::optional<TextRunner> runner;
  for (std::size_t first = 0, count = 0; first < prompts.size(); first += count) {
    // Lines side by side have one adapter.
    count = 1;
    while (count < batch && first + count < prompts.size() &&
           adapters[first + count] == adapters[first])
      ++count;
    if (first == 0 || adapters[first] != adapters[first - 1]) {
      if (request.has_named_adapters()) request.use_adapter(adapters[first], {});
      runner.emplace(request.model());  // what was read with another adapter is of no use
    }
    const auto begin = prompts.begin() + static_cast<std::ptrdiff_t>(first);
    const std::vector<Table> answers = answer_prompts(
        request, *runner, {begin, begin + static_cast<std::ptrdiff_t>(count)}, first);
    const std::size_t each = answers.size() / count;
    for (std::size_t i = 0; i < count; ++i) {
      Table line = lines[first + i].as_table();
      Array list;
      for (std::size_t n = 0; n < each; ++n) list.emplace_back(answers[i * each + n]);
      line.set("answers", std::move(list));
      const std::string text = dump_json(Value(std::move(line))) + "\n";
      if (output.empty())
        std::fputs(text.c_str(), stdout);
      else
        written += text;
    }
    std::fflush(stdout);
  }
  if (!output.empty()) write_file_atomically(output, written);
  return 0;
}

}  // namespace

int run_generate(const EngineCall& call) {
  GenerationRequest request(call);
  if (!call.option("prompts").is_null()) return answer_file(call, request);
  const std::vector<std::int64_t> prompt = read_prompt(call, request);
  TextRunner runner(request.model());
  const bool json = call.flag("json");
  const bool several = request.options().num_answers > 1;
  // Several answers are written at once, so they are shown one after the other when all are there.
  const AnswerWriter::Show print = [](std::size_t, const std::string& piece) {
    std::fputs(piece.c_str(), stdout);
    std::fflush(stdout);
  };
  const std::vector<Table> answers =
      answer_prompts(request, runner, {prompt}, 0, json || several ? AnswerWriter::Show() : print);
  for (std::size_t i = 0; i < answers.size(); ++i) {
    if (json) {
      std::puts(dump_json(Value(answers[i])).c_str());
    } else if (several) {
      std::printf("%s--- %zu\n%s\n", i > 0 ? "\n" : "", i + 1,
                  answers[i].find("text")->as_string().c_str());
    } else {
      std::puts("");
    }
  }
  return 0;
}

}  // namespace espalier
