#include "engine/commands/plan_picture.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>

namespace espalier {
namespace {

constexpr double kWidth = 960;
constexpr double kLeft = 90;  // labels stand in front of this
constexpr double kPlotWidth = kWidth - kLeft - 20;
constexpr double kStrip = 26;  // height of a rank's strip or bar
constexpr double kGap = 8;
constexpr double kLane = 24;

constexpr const char* kInk = "#24292f";
constexpr const char* kFaint = "#d0d7de";
constexpr std::array kBlockColours = {"#4878a8", "#86b0d8"};
constexpr const char* kRootColour = "#c8803c";
const std::map<std::string, const char*> kCollectiveColours = {{"all_gather", "#5a9e6f"},
                                                               {"reduce_scatter", "#c25b56"},
                                                               {"all_reduce", "#8d6cab"},
                                                               {"broadcast", "#8c8c8c"}};

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", value);
  return text;
}

std::string escaped(const std::string& text) {
  std::string safe;
  for (const char letter : text) {
    if (letter == '<')
      safe += "&lt;";
    else if (letter == '&')
      safe += "&amp;";
    else
      safe += letter;
  }
  return safe;
}

std::string size_text(std::int64_t bytes) {
  constexpr double kMega = 1e6;
  constexpr double kGiga = 1e9;
  char text[32];
  const auto value = static_cast<double>(bytes);
  if (value < kGiga)
    std::snprintf(text, sizeof text, "%.1f MB", value / kMega);
  else
    std::snprintf(text, sizeof text, "%.2f GB", value / kGiga);
  return text;
}

std::string seconds_text(double seconds) {
  char text[32];
  if (seconds < 1)
    std::snprintf(text, sizeof text, "%.3g ms", seconds * 1e3);
  else
    std::snprintf(text, sizeof text, "%.3g s", seconds);
  return text;
}

/// The drawing, from the top down.
class Canvas {
 public:
  double y = 0;

  void rectangle(double x, double top, double width, double height, const std::string& fill,
                 const std::string& tip = {}) {
    body_ += "<rect x=\"" + number(x) + "\" y=\"" + number(top) + "\" width=\"" +
             number(std::max(width, 0.3)) + "\" height=\"" + number(height) + "\" fill=\"" + fill +
             "\"";
    body_ += tip.empty() ? "/>\n" : "><title>" + escaped(tip) + "</title></rect>\n";
  }
  void frame(double x, double top, double width, double height) {
    body_ += "<rect x=\"" + number(x) + "\" y=\"" + number(top) + "\" width=\"" + number(width) +
             "\" height=\"" + number(height) + "\" fill=\"none\" stroke=\"" + kFaint + "\"/>\n";
  }
  void line(double x, double top, double bottom) {
    body_ += "<path d=\"M" + number(x) + " " + number(top) + "V" + number(bottom) + "\" stroke=\"" +
             kFaint + "\"/>\n";
  }
  void text(double x, double baseline, const std::string& content, const char* anchor = "start",
            bool bold = false) {
    body_ += "<text x=\"" + number(x) + "\" y=\"" + number(baseline) + "\" text-anchor=\"" +
             anchor + "\"" + (bold ? " font-weight=\"bold\"" : "") + ">" + escaped(content) +
             "</text>\n";
  }
  void heading(const std::string& content) {
    y += 30;
    text(12, y, content, "start", true);
    y += 10;
  }
  /// A row of colours with what they stand for.
  void legend(const std::vector<std::pair<std::string, std::string>>& entries) {
    constexpr double kLetter = 6.6;
    double x = kLeft;
    for (const auto& [colour, content] : entries) {
      rectangle(x, y + 4, 11, 11, colour);
      text(x + 16, y + 14, content);
      x += 34 + kLetter * static_cast<double>(content.size());
    }
    y += 22;
  }
  std::string finish() const {
    const std::string height = number(y + 12);
    return "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + number(kWidth) + " " +
           height + "\" width=\"" + number(kWidth) + "\" height=\"" + height +
           "\" font-family=\"sans-serif\" font-size=\"12\" fill=\"" + kInk +
           "\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n" + body_ + "</svg>\n";
  }

 private:
  std::string body_;
};

/// Colours of the parameters: blocks in turns, and what belongs to none.
std::vector<std::string> colours_of(const std::vector<PlannedParameter>& parameters) {
  std::vector<std::string> colours;
  std::map<std::string, std::size_t> number_of;
  for (const PlannedParameter& parameter : parameters) {
    const std::size_t block =
        number_of.try_emplace(parameter.block, number_of.size()).first->second;
    colours.emplace_back(parameter.block.empty() ? kRootColour
                                                 : kBlockColours[block % kBlockColours.size()]);
  }
  return colours;
}

/// The model from left to right in the order of its parameters, by their bytes; a rank's part of
/// rows is a part of the width, of columns a part of the height.
void draw_holdings(Canvas& canvas, const PlanPictureInput& input) {
  canvas.heading("Who holds what: the parameters of the model on each rank");
  const std::vector<std::string> colours = colours_of(input.parameters);
  double total = 0;
  for (const PlannedParameter& parameter : input.parameters)
    total += static_cast<double>(parameter.bytes);
  for (const RankPlan& rank : input.ranks) {
    canvas.text(kLeft - 8, canvas.y + kStrip - 8, "rank " + std::to_string(rank.rank), "end");
    double x = kLeft;
    for (std::size_t i = 0; i < input.parameters.size(); ++i) {
      const PlannedParameter& parameter = input.parameters[i];
      const double width = static_cast<double>(parameter.bytes) / total * kPlotWidth;
      for (const ShardPiece& piece : rank.layouts[i].pieces) {
        const auto share = [&](std::size_t d, const std::vector<std::int64_t>& sizes) {
          return d < parameter.shape.size()
                     ? static_cast<double>(sizes[d]) / static_cast<double>(parameter.shape[d])
                     : (&sizes == &piece.offset ? 0.0 : 1.0);
        };
        canvas.rectangle(x + share(0, piece.offset) * width,
                         canvas.y + share(1, piece.offset) * kStrip, share(0, piece.extent) * width,
                         share(1, piece.extent) * kStrip, colours[i]);
      }
      x += width;
    }
    canvas.frame(kLeft, canvas.y, kPlotWidth, kStrip);
    canvas.y += kStrip + kGap;
  }
  canvas.legend({{kRootColour, "embedding, norms outside of layers, head"},
                 {kBlockColours[1], "layers, in turns"},
                 {kBlockColours[0], "(width: rows, height: columns)"}});
}

void draw_memory(Canvas& canvas, const PlanPictureInput& input) {
  canvas.heading(
      "Memory of a rank while a step runs (rank 0 measured, the others by what they hold)");
  struct Part {
    const char* colour;
    const char* name;
    std::int64_t RankPlan::*bytes;
  };
  constexpr std::array kParts = {Part{"#4878a8", "parameters", &RankPlan::parameters},
                                 Part{"#c25b56", "gradients", &RankPlan::gradients},
                                 Part{"#d9a441", "optimizer state", &RankPlan::optimizer},
                                 Part{"#5a9e6f", "activations", &RankPlan::activations},
                                 Part{"#8c8c8c", "gathered, in transit", &RankPlan::buffers}};
  std::int64_t most = 1;
  for (const RankPlan& rank : input.ranks) {
    std::int64_t total = 0;
    for (const Part& part : kParts) total += rank.*part.bytes;
    most = std::max(most, total);
  }
  constexpr double kRoomForText = 90;
  for (const RankPlan& rank : input.ranks) {
    canvas.text(kLeft - 8, canvas.y + kStrip - 8, "rank " + std::to_string(rank.rank), "end");
    double x = kLeft;
    std::int64_t total = 0;
    for (const Part& part : kParts) {
      const std::int64_t bytes = rank.*part.bytes;
      const double width =
          static_cast<double>(bytes) / static_cast<double>(most) * (kPlotWidth - kRoomForText);
      if (bytes > 0)
        canvas.rectangle(x, canvas.y, width, kStrip, part.colour,
                         std::string(part.name) + " " + size_text(bytes));
      x += width;
      total += bytes;
    }
    canvas.text(x + 6, canvas.y + kStrip - 8, size_text(total));
    canvas.y += kStrip + kGap;
  }
  std::vector<std::pair<std::string, std::string>> legend;
  legend.reserve(kParts.size());
  for (const Part& part : kParts)
    legend.emplace_back(part.colour,
                        std::string(part.name) + " " + size_text(input.ranks.front().*part.bytes));
  canvas.legend(legend);
}

/// A stretch of a lane.
struct Stretch {
  double begin = 0;
  double end = 0;
};

/// The step as it would run: collectives go over the network one after the other, and computing
/// waits for those that it needs.
struct StepTimeline {
  std::vector<Stretch> computing;
  std::vector<Stretch> collectives;  ///< in the order of the input's
  double end = 0;
};

StepTimeline simulate(const PlanPictureInput& input) {
  struct Mark {
    double time;
    std::size_t collective;
    bool waits;
  };
  std::vector<Mark> marks;
  for (std::size_t i = 0; i < input.collectives.size(); ++i) {
    marks.push_back({input.collectives[i].begun, i, false});
    if (input.collectives[i].awaited >= 0) marks.push_back({input.collectives[i].awaited, i, true});
  }
  std::stable_sort(marks.begin(), marks.end(),
                   [](const Mark& a, const Mark& b) { return a.time < b.time; });
  StepTimeline timeline;
  timeline.collectives.resize(input.collectives.size());
  double measured = 0;
  double time = 0;
  double network_free = 0;
  const auto compute_until = [&](double mark) {
    if (mark > measured) timeline.computing.push_back({time, time + mark - measured});
    time += mark - measured;
    measured = mark;
  };
  for (const Mark& mark : marks) {
    compute_until(mark.time);
    Stretch& stretch = timeline.collectives[mark.collective];
    if (mark.waits) {
      time = std::max(time, stretch.end);
      continue;
    }
    stretch.begin = std::max(time, network_free);
    stretch.end = stretch.begin + static_cast<double>(input.collectives[mark.collective].bytes) /
                                      input.bytes_per_second;
    network_free = stretch.end;
  }
  compute_until(input.step_seconds);
  timeline.end = std::max(time, network_free);
  return timeline;
}

void draw_window(Canvas& canvas, const PlanPictureInput& input, const StepTimeline& timeline,
                 Stretch window, bool names) {
  const double scale = kPlotWidth / (window.end - window.begin);
  const auto draw = [&](const Stretch& stretch, const std::string& colour, const std::string& tip,
                        const std::string& name) {
    const double begin = std::max(stretch.begin, window.begin);
    const double end = std::min(stretch.end, window.end);
    if (begin > end) return;
    const double x = kLeft + (begin - window.begin) * scale;
    const double width = (end - begin) * scale;
    canvas.rectangle(x, canvas.y, width, kLane, colour, tip);
    constexpr double kLetter = 6.3;
    if (names && width > kLetter * static_cast<double>(name.size()))
      canvas.text(x + width / 2, canvas.y + kLane - 8, name, "middle");
  };
  canvas.text(kLeft - 8, canvas.y + kLane - 8, "compute", "end");
  for (const Stretch& stretch : timeline.computing) draw(stretch, "#b6cbe0", "", "");
  canvas.frame(kLeft, canvas.y, kPlotWidth, kLane);
  canvas.y += kLane + 2;
  canvas.text(kLeft - 8, canvas.y + kLane - 8, "network", "end");
  for (std::size_t i = 0; i < input.collectives.size(); ++i) {
    const PlannedCollective& collective = input.collectives[i];
    if (collective.bytes == 0) continue;
    draw(timeline.collectives[i], kCollectiveColours.at(collective.kind),
         collective.kind + " " + collective.what + ", " + size_text(collective.bytes),
         collective.what);
  }
  canvas.frame(kLeft, canvas.y, kPlotWidth, kLane);
  canvas.y += kLane + 14;
  canvas.text(kLeft, canvas.y, seconds_text(window.begin));
  canvas.text(kLeft + kPlotWidth, canvas.y, seconds_text(window.end), "end");
  canvas.y += 10;
}

/// Gatherings of a block in the middle of the model: before its forward and its backward pass.
std::vector<std::size_t> gatherings_of_a_block(const std::vector<PlannedCollective>& collectives) {
  std::map<std::string, std::vector<std::size_t>> places;
  std::vector<std::string> names;
  for (std::size_t i = 0; i < collectives.size(); ++i) {
    if (collectives[i].kind != "all_gather") continue;
    std::vector<std::size_t>& own = places[collectives[i].what];
    if (own.empty()) names.push_back(collectives[i].what);
    own.push_back(i);
  }
  std::vector<std::string> twice;
  for (const std::string& name : names)
    if (places[name].size() >= 2) twice.push_back(name);
  return twice.empty() ? std::vector<std::size_t>() : places[twice[twice.size() / 2]];
}

void draw_step(Canvas& canvas, const PlanPictureInput& input) {
  const StepTimeline timeline = simulate(input);
  char bandwidth[32];
  std::snprintf(bandwidth, sizeof bandwidth, "%.3g GB/s", input.bytes_per_second / 1e9);
  canvas.heading("A step of rank 0, computed on this machine, with a network of " +
                 std::string(bandwidth));
  draw_window(canvas, input, timeline, {0, timeline.end}, /*names=*/false);
  const std::vector<std::size_t> places = gatherings_of_a_block(input.collectives);
  constexpr std::array kTitles = {"Its forward pass", "Its backward pass"};
  for (std::size_t pass = 0; pass < kTitles.size() && places.size() >= 2; ++pass) {
    const Stretch own = timeline.collectives[pass == 0 ? places.front() : places.back()];
    // Up to where the gradients of the block have gone, or the block after it has come.
    double end = own.end;
    for (std::size_t i = (pass == 0 ? places.front() : places.back()) + 1, seen = 0;
         i < input.collectives.size() && seen < (pass == 0 ? 1U : 2U); ++i) {
      if (input.collectives[i].bytes == 0) continue;
      end = timeline.collectives[i].end;
      ++seen;
    }
    canvas.heading((pass == 0 ? "The block " + input.collectives[places.front()].what + ". " : "") +
                   kTitles[pass]);
    const double margin = (end - own.begin) * 0.05;
    draw_window(canvas, input, timeline, {std::max(0.0, own.begin - margin), end + margin},
                /*names=*/true);
  }
  std::vector<std::pair<std::string, std::string>> legend = {{"#b6cbe0", "compute"}};
  for (const auto& [kind, colour] : kCollectiveColours) legend.emplace_back(colour, kind);
  canvas.legend(legend);
}

}  // namespace

std::string plan_picture(const PlanPictureInput& input) {
  Canvas canvas;
  canvas.y = 26;
  canvas.text(12, canvas.y, input.title, "start", true);
  draw_holdings(canvas, input);
  draw_memory(canvas, input);
  if (input.world_size > static_cast<int>(input.ranks.size())) {
    canvas.text(kLeft, canvas.y + 12,
                "and " + std::to_string(input.world_size - static_cast<int>(input.ranks.size())) +
                    " ranks more");
    canvas.y += 20;
  }
  if (!input.collectives.empty()) draw_step(canvas, input);
  return canvas.finish();
}

}  // namespace espalier
