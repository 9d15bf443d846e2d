#include "engine/generate/beam_search.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/topk.h>

#include <algorithm>
#include <cmath>

#include "espalier/base/random.h"

namespace espalier {
namespace {

struct Beam {
  std::vector<std::int64_t> text;  ///< prompt and answer
  std::vector<double> log_probabilities;
  double score = 0.0;  ///< log probability of the answer, after penalties and filters
};

/// A running beam with one token more.
struct Candidate {
  std::int64_t beam = 0;
  std::int64_t id = 0;
  double score = 0.0;
  bool ends = false;
};

struct Finished {
  Answer answer;
  double score = 0.0;
};

class BeamSearch {
 public:
  BeamSearch(TextRunner& runner, const std::vector<std::int64_t>& prompt,
             const GenerateOptions& options, std::uint64_t stream)
      : runner_(runner),
        options_(options),
        random_(options.sampling.seed, stream),
        prompt_length_(prompt.size()),
        running_{Beam{.text = prompt}} {
    logits_ = runner_.start({prompt});
  }

  std::vector<Answer> run() {
    while (true) {
      const std::vector<Candidate> candidates = best_candidates();
      finish(candidates);
      const bool all_end = std::all_of(candidates.begin(), candidates.end(),
                                       [](const Candidate& one) { return one.ends; });
      if (all_end) break;
      const std::vector<Candidate> next = survivors(candidates);
      if (next.empty() || !goes_on(next.front().score)) break;
      advance(next);
    }
    std::vector<Answer> answers;
    for (Finished& one : finished_) {
      if (static_cast<std::int64_t>(answers.size()) == options_.num_answers) break;
      one.answer.score = one.score;
      answers.push_back(std::move(one.answer));
    }
    return answers;
  }

 private:
  std::int64_t answered() const {
    return static_cast<std::int64_t>(running_.front().text.size() - prompt_length_);
  }
  /// A beam that ends leaves its place: with as many candidates there is always one that goes on.
  std::int64_t candidates_per_beam() const {
    return std::max<std::int64_t>(2, 1 + static_cast<std::int64_t>(options_.stop_ids.size()));
  }

  /// [beams, vocab] double: log probability of each beam with each token.
  at::Tensor scores() const {
    const at::Tensor log_chances = at::log_softmax(logits_.to(at::kDouble), -1);
    std::vector<at::Tensor> rows;
    for (std::size_t b = 0; b < running_.size(); ++b) {
      const TextSoFar text{running_[b].text, static_cast<std::int64_t>(prompt_length_),
                           options_.stop_ids};
      at::Tensor row =
          process_scores(options_.sampling, log_chances[static_cast<std::int64_t>(b)], text);
      if (options_.sampling.sample)
        row = filter_scores(options_.sampling, row, candidates_per_beam());
      rows.push_back(row + running_[b].score);
    }
    return at::stack(rows);
  }

  /// Gumbel noise makes the largest sums a draw without replacement (Kool et al. 2019).
  at::Tensor noise(std::int64_t size) {
    std::vector<double> values(static_cast<std::size_t>(size));
    for (double& value : values)
      value = -std::log(-std::log(std::max(random_.uniform(draws_++), 1e-300)));
    return at::tensor(values, at::kDouble);
  }

  std::vector<Candidate> best_candidates() {
    const at::Tensor all = scores().flatten();
    const std::int64_t vocab = logits_.size(1);
    const std::int64_t count = std::min(candidates_per_beam() * options_.num_beams, all.size(0));
    const at::Tensor keys = options_.sampling.sample ? all + noise(all.size(0)) : all;
    const at::Tensor places = std::get<1>(at::topk(keys, count));
    const bool last = answered() + 1 >= options_.max_new_tokens;
    std::vector<Candidate> candidates;
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t place = places[i].item<std::int64_t>();
      const double score = all[place].item<double>();
      if (!std::isfinite(score)) continue;
      const std::int64_t id = place % vocab;
      candidates.push_back({place / vocab, id, score, last || options_.stop_ids.contains(id)});
    }
    if (options_.sampling.sample)
      std::stable_sort(candidates.begin(), candidates.end(),
                       [](const auto& a, const auto& b) { return a.score > b.score; });
    return candidates;
  }

  bool is_full() const { return static_cast<std::int64_t>(finished_.size()) == options_.num_beams; }

  /// Only the best candidates, as many as beams, may end; the others are there to go on.
  void finish(const std::vector<Candidate>& candidates) {
    if (is_full() && options_.early_stopping == EarlyStopping::kYes) return;
    const auto considered =
        std::min<std::size_t>(candidates.size(), static_cast<std::size_t>(options_.num_beams));
    const double length = std::pow(static_cast<double>(answered() + 1), options_.length_penalty);
    for (std::size_t i = 0; i < considered; ++i) {
      const Candidate& one = candidates[i];
      if (!one.ends) continue;
      Beam beam = extended(one);
      Finished finished{.score = one.score / length};
      finished.answer.ids.assign(beam.text.begin() + static_cast<std::ptrdiff_t>(prompt_length_),
                                 beam.text.end());
      finished.answer.log_probabilities = std::move(beam.log_probabilities);
      finished.answer.ending =
          options_.stop_ids.contains(one.id) ? Ending::kStopId : Ending::kLength;
      finished_.push_back(std::move(finished));
    }
    std::stable_sort(finished_.begin(), finished_.end(),
                     [](const auto& a, const auto& b) { return a.score > b.score; });
    if (static_cast<std::int64_t>(finished_.size()) > options_.num_beams)
      finished_.resize(static_cast<std::size_t>(options_.num_beams));
  }

  std::vector<Candidate> survivors(const std::vector<Candidate>& candidates) const {
    std::vector<Candidate> next;
    for (const Candidate& one : candidates) {
      if (!one.ends && static_cast<std::int64_t>(next.size()) < options_.num_beams)
        next.push_back(one);
    }
    return next;
  }

  /// Whether a running beam may still become better than the worst finished one.
  bool goes_on(double best_running) const {
    if (!is_full()) return true;
    if (options_.early_stopping == EarlyStopping::kYes) return false;
    const bool at_full_length =
        options_.early_stopping == EarlyStopping::kNever && options_.length_penalty > 0;
    const std::int64_t length = at_full_length ? options_.max_new_tokens : answered() + 1;
    return best_running / std::pow(static_cast<double>(length), options_.length_penalty) >
           finished_.back().score;
  }

  Beam extended(const Candidate& one) const {
    Beam beam = running_[static_cast<std::size_t>(one.beam)];
    beam.text.push_back(one.id);
    beam.score = one.score;
    if (options_.log_probabilities)
      beam.log_probabilities.push_back(
          at::log_softmax(logits_[one.beam].to(at::kDouble), -1)[one.id].item<double>());
    return beam;
  }

  void advance(const std::vector<Candidate>& next) {
    std::vector<Beam> beams;
    std::vector<std::int64_t> rows;
    std::vector<std::int64_t> ids;
    for (const Candidate& one : next) {
      beams.push_back(extended(one));
      rows.push_back(one.beam);
      ids.push_back(one.id);
    }
    running_ = std::move(beams);
    runner_.select(rows);
    logits_ = runner_.append(ids);
  }

  TextRunner& runner_;
  const GenerateOptions& options_;
  CounterRandom random_;
  std::uint64_t draws_ = 0;
  std::size_t prompt_length_;
  std::vector<Beam> running_;
  std::vector<Finished> finished_;  ///< best first
  at::Tensor logits_;               ///< [running, vocab]
};

}  // namespace

std::vector<Answer> beam_search(TextRunner& runner, const std::vector<std::int64_t>& prompt,
                                const GenerateOptions& options, std::uint64_t stream) {
  return BeamSearch(runner, prompt, options, stream).run();
}

}  // namespace espalier
