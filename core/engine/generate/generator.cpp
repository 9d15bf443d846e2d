#include "engine/generate/generator.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/tensor.h>

#include <string>

#include "engine/generate/beam_search.h"
#include "espalier/base/error.h"

namespace espalier {
namespace {

void require(bool condition, const char* option, std::int64_t found, const std::string& expected) {
  if (!condition)
    throw_bad_input(std::string(option) + " is out of range", std::to_string(found), expected,
                    option);
}

/// An answer that is being written: one text of the runner.
struct Writing {
  std::size_t answer = 0;
  std::size_t prompt_length = 0;
  std::vector<std::int64_t> text;
  Sampler sampler;
};

class BatchWriter {
 public:
  BatchWriter(TextRunner& runner, const std::vector<std::vector<std::int64_t>>& prompts,
              const GenerateOptions& options, const AnswerSink& sink)
      : runner_(runner), options_(options), sink_(sink) {
    std::vector<std::int64_t> texts;
    for (std::size_t p = 0; p < prompts.size(); ++p) {
      for (std::int64_t n = 0; n < options.num_answers; ++n) {
        const std::uint64_t prompt = options.first_prompt + p;
        const std::uint64_t stream = prompt * static_cast<std::uint64_t>(options.num_answers) +
                                     static_cast<std::uint64_t>(n);
        texts.push_back(static_cast<std::int64_t>(p));
        writing_.push_back(
            {writing_.size(), prompts[p].size(), prompts[p], Sampler(options.sampling, stream)});
      }
    }
    answers_.resize(writing_.size());
    logits_ = runner_.start(prompts);
    if (options.num_answers == 1) return;
    logits_ = logits_.index_select(0, at::tensor(texts, at::kLong));
    runner_.select(texts);
  }

  std::vector<Answer> run() {
    while (!writing_.empty()) step();
    return std::move(answers_);
  }

 private:
  void step() {
    std::vector<std::int64_t> rows;
    std::vector<std::int64_t> ids;
    std::vector<Writing> going_on;
    for (std::size_t row = 0; row < writing_.size(); ++row) {
      Writing& one = writing_[row];
      const std::int64_t id = pick(one, logits_[static_cast<std::int64_t>(row)]);
      if (!goes_on(one, id)) continue;
      rows.push_back(static_cast<std::int64_t>(row));
      ids.push_back(id);
      going_on.push_back(std::move(one));
    }
    if (!rows.empty() && rows.size() < writing_.size()) runner_.select(rows);
    writing_ = std::move(going_on);
    if (!ids.empty()) logits_ = runner_.append(ids);
  }

  std::int64_t pick(Writing& one, const at::Tensor& logits) {
    const TextSoFar text{one.text, static_cast<std::int64_t>(one.prompt_length), options_.stop_ids};
    const std::int64_t id = one.sampler.pick(logits, text);
    one.text.push_back(id);
    Answer& answer = answers_[one.answer];
    answer.ids.push_back(id);
    if (options_.log_probabilities)
      answer.log_probabilities.push_back(
          at::log_softmax(logits.to(at::kDouble), -1)[id].item<double>());
    return id;
  }

  bool goes_on(const Writing& one, std::int64_t id) {
    Answer& answer = answers_[one.answer];
    const bool wanted = !sink_ || sink_(one.answer, id);
    const bool stops = options_.stop_ids.contains(id);
    if (stops)
      answer.ending = Ending::kStopId;
    else if (!wanted)
      answer.ending = Ending::kSink;
    return wanted && !stops &&
           static_cast<std::int64_t>(answer.ids.size()) < options_.max_new_tokens;
  }

  TextRunner& runner_;
  const GenerateOptions& options_;
  const AnswerSink& sink_;
  std::vector<Writing> writing_;  ///< in the order of the runner's texts
  std::vector<Answer> answers_;
  at::Tensor logits_;  ///< [writing, vocab]
};

}  // namespace

void GenerateOptions::check() const {
  sampling.check();
  require(max_new_tokens >= 1, "--max-new-tokens", max_new_tokens, "1 or more");
  require(num_answers >= 1, "--num-answers", num_answers, "1 or more");
  require(num_beams >= 1, "--num-beams", num_beams, "1 (no beam search) or more");
  require(num_beams == 1 || num_answers <= num_beams, "--num-answers", num_answers,
          "at most --num-beams = " + std::to_string(num_beams));
}

std::vector<Answer> generate_answers(TextRunner& runner,
                                     const std::vector<std::vector<std::int64_t>>& prompts,
                                     const GenerateOptions& options, const AnswerSink& sink) {
  options.check();
  if (options.num_beams == 1) return BatchWriter(runner, prompts, options, sink).run();
  std::vector<Answer> answers;
  for (std::size_t p = 0; p < prompts.size(); ++p) {
    for (Answer& answer : beam_search(runner, prompts[p], options, options.first_prompt + p)) {
      for (const std::int64_t id : answer.ids) {
        if (sink && !sink(answers.size(), id)) break;
      }
      answers.push_back(std::move(answer));
    }
  }
  return answers;
}

std::vector<std::int64_t> generate(Model& model, const std::vector<std::int64_t>& prompt,
                                   const GenerateOptions& options, const IdSink& sink) {
  TextRunner runner(model);
  const AnswerSink forward = [&](std::size_t, std::int64_t id) { return !sink || sink(id); };
  return generate_answers(runner, {prompt}, options, forward).front().ids;
}

}  // namespace espalier
