#include "moectl/render/queue_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "common/term/human.h"
#include "moectl/render/job_text.h"

namespace moe::moectl {
namespace {

using moe::v1::Queue;
using moe::v1::SlotSeconds;
using term::Align;

std::string OrDash(bool is_there, int64_t value) {
  return is_there ? std::to_string(value) : std::string("-");
}

std::string Places(const moe::v1::PlannedJob& job) {
  std::vector<std::string> places;
  for (const moe::v1::Placement& placement : job.placements()) {
    places.push_back(
        fmt::format("{}[{}]", placement.worker_id(), fmt::join(placement.slots(), ",")));
  }
  return fmt::format("{}", fmt::join(places, " "));
}

std::string Outcome(const moe::v1::PlannedJob& job, int64_t now_unix_millis) {
  if (!job.placements().empty()) return "starts on " + Places(job);
  std::string text = job.reason();
  if (!job.ahead_job_ids().empty()) {
    text += fmt::format("; {} ahead of it", job.ahead_job_ids_size());
  }
  if (job.has_start_by_time()) {
    text += fmt::format(
        ", {} at most",
        term::FormatAge(static_cast<double>(MillisOf(job.start_by_time()) - now_unix_millis) /
                        1000));
  }
  return text;
}

// Name and value of each use but `queued`, in the order in which an attempt meets them.
std::vector<std::pair<std::string, double>> Uses(const SlotSeconds& time) {
  return {{"starting", time.starting()},
          {"restoring", time.restoring()},
          {"productive", time.productive()},
          {"recomputed", time.recomputed()},
          {"checkpointing", time.checkpointing()},
          {"hung", time.hung()},
          {"idle", time.idle()}};
}

std::string Share(double part, double whole) {
  return whole > 0 ? fmt::format("{:.1f} %", 100 * part / whole) : std::string("-");
}

double Held(const SlotSeconds& time) {
  double sum = 0;
  for (const auto& [name, seconds] : Uses(time)) sum += seconds;
  return sum;
}

}  // namespace

std::string RenderQueueTable(const moe::v1::ListQueuesResponse& queues,
                             const term::TableLayout& layout) {
  term::Table table({{"QUEUE"},
                     {"QUOTA", Align::kRight},
                     {"USED", Align::kRight},
                     {"LIMIT", Align::kRight},
                     {"LENDS", Align::kRight},
                     {"WEIGHT", Align::kRight},
                     {"JOBS", Align::kRight},
                     {"QUEUED", Align::kRight},
                     {"WANTED", Align::kRight},
                     {"USAGE", Align::kRight}});
  for (const Queue& queue : queues.queues()) {
    const bool borrows = queue.used_slots() > queue.quota_slots();
    table.AddRow(
        {queue.name(),
         std::to_string(queue.quota_slots()),
         {std::to_string(queue.used_slots()), borrows ? term::Style::kYellow : term::Style::kPlain},
         OrDash(queue.has_limit_slots(), queue.limit_slots()),
         queue.has_lends_slots() ? std::to_string(queue.lends_slots()) : "all",
         fmt::format("{}", queue.weight()),
         std::to_string(queue.placed_jobs()),
         std::to_string(queue.queued_jobs()),
         std::to_string(queue.queued_slots()),
         fmt::format("{:.2f} h", queue.usage_slot_seconds() / 3600)});
  }
  return table.Render(layout);
}

std::string RenderQueueUse(const Queue& queue) {
  std::string text = fmt::format("'{}' uses {} slots; quota {}", queue.name(), queue.used_slots(),
                                 queue.quota_slots());
  if (queue.has_limit_slots()) text += fmt::format(", limit {}", queue.limit_slots());
  if (queue.used_slots() > queue.quota_slots()) {
    text += fmt::format(" ({} borrowed)", queue.used_slots() - queue.quota_slots());
  }
  return text;
}

std::string RenderPlanTable(const moe::v1::PlanPipelineResponse& plan, int64_t now_unix_millis,
                            const term::TableLayout& layout) {
  term::Table table(
      {{"JOB"}, {"STOPS"}, {"COST", Align::kRight}, {.title = "OUTCOME", .shrinkable = true}});
  for (const moe::v1::PlannedJob& job : plan.jobs()) {
    std::vector<std::string> stopped;
    double cost = 0;
    for (const moe::v1::PlannedStop& stop : job.stops()) {
      stopped.push_back(fmt::format("{} ({})", stop.job_id(), stop.name()));
      cost += stop.lost_slot_seconds();
    }
    table.AddRow({job.name(), stopped.empty() ? "-" : fmt::format("{}", fmt::join(stopped, " ")),
                  stopped.empty() ? "-" : term::FormatDuration(cost),
                  Outcome(job, now_unix_millis)});
  }
  return table.Render(layout);
}

std::string RenderGoodput(const moe::v1::GetGoodputResponse& goodput,
                          const term::TableLayout& layout) {
  const double total = goodput.total_slot_seconds();
  term::Table uses({{"SLOT TIME"}, {"SPENT", Align::kRight}, {"SHARE", Align::kRight}});
  for (const auto& [name, seconds] : Uses(goodput.slot_seconds())) {
    uses.AddRow({name, term::FormatDuration(seconds), Share(seconds, total)});
  }
  uses.AddRow({"all", term::FormatDuration(total), Share(total, total)});
  std::string text = uses.Render(layout);
  text += fmt::format("\nGoodput {}; waited for slots: {}\n",
                      Share(goodput.slot_seconds().productive(), total),
                      term::FormatDuration(goodput.slot_seconds().queued()));
  if (!goodput.attempts().empty()) {
    term::Table attempts({{"ATTEMPT", Align::kRight},
                          {"SLOTS", Align::kRight},
                          {"QUEUED", Align::kRight},
                          {"HELD", Align::kRight},
                          {"PRODUCTIVE", Align::kRight},
                          {"RECOMPUTED", Align::kRight},
                          {"GOODPUT", Align::kRight}});
    for (const moe::v1::AttemptGoodput& attempt : goodput.attempts()) {
      const SlotSeconds& time = attempt.slot_seconds();
      attempts.AddRow({std::to_string(attempt.attempt()), std::to_string(attempt.slots()),
                       term::FormatDuration(time.queued() / std::max(1, attempt.slots())),
                       term::FormatDuration(attempt.held_seconds()),
                       term::FormatDuration(time.productive() / std::max(1, attempt.slots())),
                       term::FormatDuration(time.recomputed() / std::max(1, attempt.slots())),
                       Share(time.productive(), Held(time))});
    }
    text += "\n" + attempts.Render(layout);
  }
  if (goodput.queues_size() > 1) {
    term::Table queues({{"QUEUE"},
                        {"SLOT TIME", Align::kRight},
                        {"WAITED", Align::kRight},
                        {"GOODPUT", Align::kRight}});
    for (const moe::v1::QueueGoodput& queue : goodput.queues()) {
      const double held = Held(queue.slot_seconds());
      queues.AddRow({queue.queue(), term::FormatDuration(held),
                     term::FormatDuration(queue.slot_seconds().queued()),
                     Share(queue.slot_seconds().productive(), held)});
    }
    text += "\n" + queues.Render(layout);
  }
  return text;
}

}  // namespace moe::moectl
