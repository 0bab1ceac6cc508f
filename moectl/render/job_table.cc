#include "moectl/render/job_table.h"

#include <fmt/format.h>

#include <vector>

#include "common/term/human.h"
#include "moectl/render/job_text.h"

namespace moe::moectl {

using term::Align;
using term::Cell;
using term::Column;
using term::Table;

std::string RenderJobTable(const moe::v1::ListJobsResponse& jobs, bool wide,
                           int64_t now_unix_millis, const term::TableLayout& layout) {
  std::vector<Column> columns = {{"JOB"}, {"NAME"}, {"KIND"}, {"STATE"}, {"PROGRESS"}};
  if (wide) columns.insert(columns.end(), {{"PIPELINE"}, {"ATTEMPT"}, {"PLACEMENT"}, {"USER"}});
  columns.push_back({.title = "REASON", .shrinkable = true});
  columns.push_back({.title = "AGE"});
  Table table(columns);
  for (const moe::v1::Job& job : jobs.jobs()) {
    std::vector<Cell> row = {job.job_id(), job.spec().name(), KindOf(job.spec()),
                             Cell(StateName(job.state()), StyleOf(job.state())),
                             ProgressText(job.progress())};
    if (wide) {
      row.insert(row.end(), {job.pipeline_id(), std::to_string(job.attempt()), PlacementText(job),
                             job.user()});
    }
    // A running job has no reason; what it does is the next best.
    row.emplace_back(job.reason().empty() && !HasEnded(job.state()) ? job.progress().phase()
                                                                    : job.reason());
    row.emplace_back(
        term::FormatAge(static_cast<double>(now_unix_millis - MillisOf(job.create_time())) / 1000));
    table.AddRow(std::move(row));
  }
  return table.Render(layout);
}

std::string RenderEventTable(const moe::v1::ListEventsResponse& events,
                             const term::TableLayout& layout) {
  Table table({{"TIME"},
               {"ATTEMPT", Align::kRight},
               {"STATE"},
               {"CAUSE"},
               {.title = "MESSAGE", .shrinkable = true}});
  for (const moe::v1::JobEvent& event : events.events()) {
    table.AddRow({TimeText(MillisOf(event.time())),
                  event.attempt() == 0 ? std::string() : std::to_string(event.attempt()),
                  Cell(StateName(event.state()), StyleOf(event.state())), CauseName(event.cause()),
                  event.message()});
  }
  return table.Render(layout);
}

std::string RenderStepTable(const moe::v1::ListStepsResponse& steps,
                            const term::TableLayout& layout) {
  Table table({{"STEP", Align::kRight},
               {"LOSS", Align::kRight},
               {"BALANCE", Align::kRight},
               {"LR", Align::kRight},
               {"GRAD_NORM", Align::kRight},
               {"TOKENS", Align::kRight},
               {"SECONDS", Align::kRight},
               {"TOKENS/S", Align::kRight}});
  for (const moe::v1::StepReport& step : steps.steps()) {
    table.AddRow({std::to_string(step.step()), fmt::format("{:.4f}", step.loss()),
                  fmt::format("{:.4f}", step.balance_loss()),
                  fmt::format("{:.3g}", step.learning_rate()),
                  fmt::format("{:.3f}", step.gradient_norm()), std::to_string(step.tokens()),
                  fmt::format("{:.2f}", step.step_seconds()),
                  fmt::format("{:.0f}", step.tokens_per_second())});
  }
  return table.Render(layout);
}

std::string RenderStepCsv(const moe::v1::ListStepsResponse& steps) {
  std::string csv =
      "step,loss,balance_loss,learning_rate,gradient_norm,tokens,step_seconds,tokens_per_second,"
      "batch_crc32c\n";
  for (const moe::v1::StepReport& step : steps.steps()) {
    // fmt's "{}" is the shortest text that reads back as the same double.
    csv +=
        fmt::format("{},{},{},{},{},{},{},{},{}\n", step.step(), step.loss(), step.balance_loss(),
                    step.learning_rate(), step.gradient_norm(), step.tokens(), step.step_seconds(),
                    step.tokens_per_second(), step.batch_crc32c());
  }
  return csv;
}

}  // namespace moe::moectl
