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

std::string Panel(const std::string& title, const std::vector<Line>& lines, double most_tokens,
                  double top) {
  double low = 0, high = 0;
  for (const Line& line : lines) {
    for (const auto& [tokens, value] : line.points) {
      low = std::min(low, value);
      high = std::max(high, value);
    }
  }
  const Axis y_axis = RoundAxis(low, high), x_axis = RoundAxis(0, most_tokens);
  const auto x = [&](double tokens) { return kLeft + kPlotWidth * tokens / x_axis.high; };
  const auto y = [&](double value) {
    return top + kPanelHeight * (y_axis.high - value) / (y_axis.high - y_axis.low);
  };
  std::string svg = fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" font-weight=\"bold\">{}</text>\n",
                                kLeft, top - 12, title);
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
  for (size_t i = 0; i < lines.size(); ++i) {
    std::string points;
    for (const auto& [tokens, value] : lines[i].points) {
      points += fmt::format("{}{:.2f},{:.2f}", points.empty() ? "" : " ", x(tokens), y(value));
    }
    svg += fmt::format("<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"2\" points=\"{}\"/>\n",
                       kColors[i % kColors.size()], points);
  }
  return svg;
}

}  // namespace

std::string PlotDecisions(const moe::v1::ListDecisionsResponse& journal) {
  std::vector<Line> weights, excess;
  for (int d = 0; d < journal.decisions(0).domains_size(); ++d) {
    const auto& first = journal.decisions(0).domains(d);
    Line& weight = weights.emplace_back(Line{first.domain(), {{0, first.old_weight()}}});
    Line& loss = excess.emplace_back(Line{first.domain(), {}});
    for (const SamplerDecision& decision : journal.decisions()) {
      const auto& domain = decision.domains(d);
      const double tokens = static_cast<double>(decision.tokens());
      weight.points.insert(weight.points.end(),
                           {{tokens, domain.old_weight()}, {tokens, domain.new_weight()}});
      loss.points.emplace_back(tokens, domain.loss() - domain.reference_loss());
    }
  }
  const double most_tokens =
      static_cast<double>(journal.decisions(journal.decisions_size() - 1).tokens());
  const double top = 50, second = top + kPanelHeight + kGap + 20;
  const double height = second + kPanelHeight + 50;
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1:.0f}\" width=\"{0}\" "
      "height=\"{1:.0f}\" font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
      kWidth, height);
  svg += Panel("Domain weights over tokens, " + journal.job_id(), weights, most_tokens, top);
  svg += Panel("Held-out loss above the reference (nats) over tokens", excess, most_tokens, second);
  for (size_t i = 0; i < weights.size(); ++i) {
    const double y = top + 10 + 20 * static_cast<double>(i);
    svg += fmt::format(
        "<line x1=\"{0:.0f}\" y1=\"{1:.0f}\" x2=\"{2:.0f}\" y2=\"{1:.0f}\" stroke=\"{3}\" "
        "stroke-width=\"3\"/>\n<text x=\"{4:.0f}\" y=\"{5:.0f}\">{6}</text>\n",
        kLeft + kPlotWidth + 25, y, kLeft + kPlotWidth + 50, kColors[i % kColors.size()],
        kLeft + kPlotWidth + 58, y + 4, weights[i].domain);
  }
  return svg + "</svg>\n";
}

}  // namespace moe::moectl
