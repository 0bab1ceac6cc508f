#include "moectl/render/sampler_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <vector>

namespace moe::moectl {
namespace {

using moe::v1::SamplerDecision;

// In user units of the SVG.
constexpr double kWidth = 860, kLeft = 70, kPlotWidth = 600, kPanelHeight = 230, kGap = 60;
// Okabe and Ito's palette: told apart by the colour-blind too.
constexpr std::array<const char*, 8> kColors = {"#0072B2", "#E69F00", "#009E73", "#D55E00",
                                                "#CC79A7", "#56B4E9", "#000000", "#F0E442"};

struct Line {
  std::string domain;
  std::vector<std::pair<double, double>> points;  // tokens, value
};

struct Axis {
  double low = 0, high = 1, step = 1;
};

// Ticks at 1, 2 or 5 times a power of ten, about five of them.
Axis RoundAxis(double low, double high) {
  if (!(high > low)) high = low + 1;
  const double rough = (high - low) / 5;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  const double factor = rough / power;
  const double step = power * (factor < 1.5 ? 1 : factor < 3.5 ? 2 : factor < 7.5 ? 5 : 10);
  return {std::floor(low / step) * step, std::ceil(high / step) * step, step};
}

std::string TokensText(double tokens) {
  for (const auto& [unit, name] :
       {std::pair{1e12, " T"}, std::pair{1e9, " B"}, std::pair{1e6, " M"}, std::pair{1e3, " k"}}) {
    if (std::abs(tokens) >= unit) return fmt::format("{:.4g}{}", tokens / unit, name);
  }
  return fmt::format("{:.4g}", tokens);
}

struct Panel {
  std::string title;
  std::string series;  // class of its lines in the SVG
  std::vector<Line> lines;
  bool from_zero = true;  // whether the axis of values shows 0
};

Axis ValueAxis(const Panel& panel) {
  double low = panel.from_zero ? 0 : panel.lines.front().points.front().second;
  double high = low;
  for (const Line& line : panel.lines) {
    for (const auto& [tokens, value] : line.points) {
      low = std::min(low, value);
      high = std::max(high, value);
    }
  }
  return RoundAxis(low, high);
}

std::string Draw(const Panel& panel, double most_tokens, double top) {
  const Axis y_axis = ValueAxis(panel), x_axis = RoundAxis(0, most_tokens);
  const auto x = [&](double tokens) { return kLeft + kPlotWidth * tokens / x_axis.high; };
  const auto y = [&](double value) {
    return top + kPanelHeight * (y_axis.high - value) / (y_axis.high - y_axis.low);
  };
  std::string svg = fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" font-weight=\"bold\">{}</text>\n",
                                kLeft, top - 12, panel.title);
  const int rows = static_cast<int>(std::lround((y_axis.high - y_axis.low) / y_axis.step));
  for (int i = 0; i <= rows; ++i) {
    const double value = y_axis.low + i * y_axis.step;
    svg += fmt::format(
        "<line x1=\"{0:.1f}\" y1=\"{1:.1f}\" x2=\"{2:.1f}\" y2=\"{1:.1f}\" stroke=\"#ddd\"/>\n"
        "<text x=\"{3:.1f}\" y=\"{4:.1f}\" text-anchor=\"end\">{5:.4g}</text>\n",
        kLeft, y(value), kLeft + kPlotWidth, kLeft - 8, y(value) + 4,
        std::abs(value) < y_axis.step / 1e6 ? 0.0 : value);
  }
  const int columns = static_cast<int>(std::lround(x_axis.high / x_axis.step));
  for (int i = 0; i <= columns; ++i) {
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{}</text>\n",
                       x(i * x_axis.step), top + kPanelHeight + 18, TokensText(i * x_axis.step));
  }
  for (size_t i = 0; i < panel.lines.size(); ++i) {
    const Line& line = panel.lines[i];
    std::string points;
    for (const auto& [tokens, value] : line.points) {
      points += fmt::format("{}{:.2f},{:.2f}", points.empty() ? "" : " ", x(tokens), y(value));
    }
    svg += fmt::format(
        "<polyline class=\"{}\" data-domain=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\" "
        "points=\"{}\"/>\n",
        panel.series, line.domain, kColors[i % kColors.size()], points);
  }
  return svg;
}

}  // namespace

std::string PlotDecisions(const moe::v1::ListDecisionsResponse& journal) {
  Panel weights = {
      .title = "Domain weights over tokens, " + journal.job_id(), .series = "weight", .lines = {}};
  Panel losses = {.title = "Held-out loss over tokens (nats)",
                  .series = "loss",
                  .lines = {},
                  .from_zero = false};
  Panel excess = {
      .title = "Held-out loss above the reference (nats)", .series = "excess", .lines = {}};
  for (int d = 0; d < journal.decisions(0).domains_size(); ++d) {
    const auto& first = journal.decisions(0).domains(d);
    for (Panel* panel : {&weights, &losses, &excess}) {
      panel->lines.push_back({.domain = first.domain(), .points = {}});
    }
    auto& steps = weights.lines.back().points;
    steps.emplace_back(0, first.old_weight());
    for (const SamplerDecision& decision : journal.decisions()) {
      const auto& domain = decision.domains(d);
      const double tokens = static_cast<double>(decision.tokens());
      steps.insert(steps.end(), {{tokens, domain.old_weight()}, {tokens, domain.new_weight()}});
      losses.lines.back().points.emplace_back(tokens, domain.loss());
      excess.lines.back().points.emplace_back(tokens, domain.loss() - domain.reference_loss());
    }
  }
  const double most_tokens =
      static_cast<double>(journal.decisions(journal.decisions_size() - 1).tokens());
  constexpr double kTop = 50, kPanel = kPanelHeight + kGap + 20;
  constexpr double kHeight = kTop + 3 * kPanel - 30;
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1:.0f}\" width=\"{0}\" "
      "height=\"{1:.0f}\" font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
      kWidth, kHeight);
  double top = kTop;
  for (const Panel* panel : {&weights, &losses, &excess}) {
    svg += Draw(*panel, most_tokens, top);
    top += kPanel;
  }
  for (size_t i = 0; i < weights.lines.size(); ++i) {
    const double y = kTop + 10 + 20 * static_cast<double>(i);
    svg += fmt::format(
        "<line x1=\"{0:.0f}\" y1=\"{1:.0f}\" x2=\"{2:.0f}\" y2=\"{1:.0f}\" stroke=\"{3}\" "
        "stroke-width=\"3\"/>\n<text x=\"{4:.0f}\" y=\"{5:.0f}\">{6}</text>\n",
        kLeft + kPlotWidth + 25, y, kLeft + kPlotWidth + 50, kColors[i % kColors.size()],
        kLeft + kPlotWidth + 58, y + 4, weights.lines[i].domain);
  }
  return svg + "</svg>\n";
}

}  // namespace moe::moectl
