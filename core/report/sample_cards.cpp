#include "report/sample_cards.h"

#include <algorithm>
#include <map>

#include "espalier/base/json.h"
#include "report/html.h"

namespace espalier::report {
namespace {

constexpr std::size_t kLongestText = 3000;  // bytes of a prompt or an answer

struct Sample {
  std::int64_t step = 0;
  std::string answer;
  std::string ending;
};

/// Prompt -> run -> its samples, in the order of steps.
struct Samples {
  std::vector<std::string> prompts;  ///< in the order of the files
  std::map<std::string, std::map<std::size_t, std::vector<Sample>>> by_prompt;
};

std::string text_of(const Value& table, const char* key) {
  const Value* found = table.find(key);
  return found != nullptr && found->is_string() ? found->as_string() : std::string();
}

/// At most kLongestText bytes, cut between characters.
std::string cut(const std::string& text) {
  if (text.size() <= kLongestText) return text;
  std::size_t end = kLongestText;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
  return text.substr(0, end) + " …";
}

std::string prompt_of(const Value& sample) {
  const Value* messages = sample.find("messages");
  if (messages == nullptr || !messages->is_array()) return text_of(sample, "prompt");
  std::string text;
  for (const Value& message : messages->as_array()) {
    const Value* content = message.find("content");
    if (!text.empty()) text += "\n";
    text += text_of(message, "role") + ": ";
    if (content != nullptr)
      text += content->is_string() ? content->as_string() : dump_json(*content);
  }
  return text;
}

Samples collect(const std::vector<RunRecords>& runs) {
  Samples samples;
  for (std::size_t run = 0; run < runs.size(); ++run) {
    for (const Value& line : runs[run].read_samples()) {
      const Value* step = line.find("step");
      const Value* list = line.find("samples");
      if (step == nullptr || !step->is_int() || list == nullptr || !list->is_array()) continue;
      for (const Value& sample : list->as_array()) {
        const std::string prompt = prompt_of(sample);
        auto [place, is_new] = samples.by_prompt.try_emplace(prompt);
        if (is_new) samples.prompts.push_back(prompt);
        place->second[run].push_back(
            {step->as_int(), cut(text_of(sample, "answer")), text_of(sample, "ending")});
      }
    }
  }
  return samples;
}

std::size_t size_of(const Samples& samples) {
  std::size_t bytes = 0;
  for (const auto& [prompt, runs] : samples.by_prompt) {
    for (const auto& [run, list] : runs) {
      for (const Sample& sample : list) bytes += sample.answer.size() + 120;
    }
  }
  return bytes;
}

/// Evenly spread, with the first and the last.
void keep(std::vector<Sample>& list, std::size_t count) {
  if (list.size() <= count) return;
  std::vector<Sample> kept;
  for (std::size_t k = 0; k < count; ++k)
    kept.push_back(
        std::move(list[count == 1 ? list.size() - 1 : k * (list.size() - 1) / (count - 1)]));
  list = std::move(kept);
}

std::string card(const Sample& sample, const std::string& heading) {
  return "<div class=\"answer\"><header>" + heading + "step " + std::to_string(sample.step) +
         (sample.ending == "length" ? ", cut off at its length" : "") + "</header><p>" +
         escaped(sample.answer) + "</p></div>\n";
}

}  // namespace

std::string sample_cards(const std::vector<RunRecords>& runs, const std::vector<std::string>& names,
                         std::size_t bytes) {
  Samples samples = collect(runs);
  if (samples.prompts.empty()) return {};
  std::size_t most = 0;
  for (const auto& [prompt, by_run] : samples.by_prompt) {
    for (const auto& [run, list] : by_run) most = std::max(most, list.size());
  }
  std::size_t count = most;
  while (count > 1 && size_of(samples) > bytes) {
    count = std::max<std::size_t>(1, count / 2);
    for (auto& [prompt, by_run] : samples.by_prompt) {
      for (auto& [run, list] : by_run) keep(list, count);
    }
  }
  std::string html = "<h2>Samples</h2>\n";
  if (count < most)
    html += "<p class=\"note\">Texts of " + std::to_string(count) + " of " + std::to_string(most) +
            " validations; all are in samples.jsonl.</p>\n";
  for (const std::string& prompt : samples.prompts) {
    const auto& by_run = samples.by_prompt[prompt];
    html += "<div class=\"prompt\">" + escaped(cut(prompt)) + "</div>\n<div class=\"answers\">\n";
    std::string earlier;
    for (const auto& [run, list] : by_run) {
      const std::string heading =
          runs.size() > 1 ? run_dot(run) + escaped(names[run]) + ", " : std::string();
      html += card(list.back(), heading);
      for (std::size_t i = list.size() - 1; i-- > 0;) earlier += card(list[i], heading);
    }
    html += "</div>\n";
    if (!earlier.empty())
      html += "<details><summary>earlier</summary><div class=\"answers\">\n" + earlier +
              "</div></details>\n";
  }
  return html;
}

}  // namespace espalier::report
