#include "moectl/render/watch_board.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "common/term/human.h"
#include "common/term/progress_bar.h"
#include "common/term/table.h"
#include "moectl/render/job_text.h"

namespace moe::moectl {
namespace {

using moe::v1::Job;

constexpr int kBarWidth = 18;
// Totals from here on are shown as a share.
constexpr int64_t kLongTotal = 10'000;
// Weight of the newest step.
constexpr double kSmoothing = 0.2;

double Elapsed(const Job& job, int64_t now_unix_millis) {
  if (!job.has_start_time()) return 0;
  const int64_t end = job.has_end_time() ? MillisOf(job.end_time()) : now_unix_millis;
  return static_cast<double>(end - MillisOf(job.start_time())) / 1000;
}

// "loss 7.1234 balance 0.0101 lr 0.0002 grad_norm 1.25 tokens/s 812".
// With losses on held-out text, where the step measured them: "heldout c4 3.41 books 3.19".
std::string StepText(const moe::v1::StepReport& step) {
  std::string text = fmt::format(
      "loss {:.4f} balance {:.4f} lr {:.3g} grad_norm {:.3f} tokens/s {:.0f}", step.loss(),
      step.balance_loss(), step.learning_rate(), step.gradient_norm(), step.tokens_per_second());
  std::string heldout;
  for (const moe::v1::DomainCount& domain : step.domains()) {
    if (!domain.has_heldout_loss()) continue;
    heldout += fmt::format(" {} {:.4f}", domain.domain(), domain.heldout_loss());
  }
  return heldout.empty() ? text : text + " heldout" + heldout;
}

// "[=====>    ] 34/60", or with a share where the numbers are long; empty where nothing is known.
std::string BarText(const Job& job) {
  const moe::v1::JobProgress& progress = job.progress();
  // What a job skipped, such as an empty file, it never counted.
  if (job.state() == moe::v1::JOB_STATE_SUCCEEDED) {
    return term::ProgressBar(1, 1, kBarWidth) + " done";
  }
  if (progress.total() <= 0) return "";
  const std::string bar = term::ProgressBar(progress.done(), progress.total(), kBarWidth);
  if (progress.total() < kLongTotal) {
    return fmt::format("{} {}/{}", bar, progress.done(), progress.total());
  }
  return fmt::format(
      "{} {:.0f}%", bar,
      100.0 * static_cast<double>(progress.done()) / static_cast<double>(progress.total()));
}

std::string LineText(const Job& job) {
  std::string text =
      fmt::format("{} {} {}", job.job_id(), job.spec().name(), StateName(job.state()));
  const std::string progress = ProgressText(job.progress());
  if (!progress.empty() && !HasEnded(job.state())) text += " " + progress;
  if (!job.progress().phase().empty() && !HasEnded(job.state())) {
    text += " " + job.progress().phase();
  }
  if (job.progress().has_last_step()) text += " " + StepText(job.progress().last_step());
  return text;
}

}  // namespace

WatchBoard::WatchBoard(const std::vector<Job>& jobs) {
  for (const Job& job : jobs) {
    order_.push_back(job.job_id());
    entries_[job.job_id()].job = job;
  }
}

std::string WatchBoard::Update(const moe::v1::WatchJobsResponse& change, int64_t now_unix_millis) {
  const Job& job = change.job();
  const auto found = entries_.find(job.job_id());
  if (found == entries_.end()) return "";
  Entry& entry = found->second;
  const moe::v1::StepReport& step = job.progress().last_step();
  if (step.step() != entry.job.progress().last_step().step() && step.step_seconds() > 0) {
    entry.step_seconds = entry.step_seconds == 0 ? step.step_seconds()
                                                 : kSmoothing * step.step_seconds() +
                                                       (1 - kSmoothing) * entry.step_seconds;
  }
  entry.job = job;

  std::string line = LineText(job);
  if (change.has_event() && !change.event().message().empty()) {
    line += ": " + change.event().message();
  } else if (!job.reason().empty() && HasEnded(job.state())) {
    line += ": " + job.reason();
  }
  if (line == entry.last_line) return "";
  entry.last_line = line;
  if (const auto left = RemainingSeconds(job, entry.step_seconds, now_unix_millis);
      left && !change.has_event()) {
    line += " left " + term::FormatDuration(*left);
  }
  return TimeOfDayText(now_unix_millis) + " " + line;
}

std::vector<Job> WatchBoard::jobs() const {
  std::vector<Job> jobs;
  for (const std::string& id : order_) jobs.push_back(entries_.at(id).job);
  return jobs;
}

std::vector<Job> WatchBoard::Unsuccessful() const {
  std::vector<Job> unsuccessful;
  for (Job& job : jobs()) {
    if (HasEnded(job.state()) && job.state() != moe::v1::JOB_STATE_SUCCEEDED) {
      unsuccessful.push_back(std::move(job));
    }
  }
  return unsuccessful;
}

std::string WatchBoard::RenderRegion(int64_t now_unix_millis,
                                     const term::Terminal& terminal) const {
  // The title line, and the line on which the cursor rests.
  const size_t room = std::max(1, terminal.rows - 2);
  std::vector<const Entry*> shown;
  for (const std::string& id : order_) shown.push_back(&entries_.at(id));
  for (size_t i = 0; i < shown.size() && shown.size() > room;) {
    if (HasEnded(shown[i]->job.state())) {
      shown.erase(shown.begin() + static_cast<std::ptrdiff_t>(i));
    } else {
      ++i;
    }
  }
  if (shown.size() > room) shown.resize(room);

  term::Table table({{"JOB"},
                     {"NAME"},
                     {"STATE"},
                     {"PROGRESS"},
                     {"LOSS", term::Align::kRight},
                     {"TOKENS/S", term::Align::kRight},
                     {"TIME", term::Align::kRight},
                     {"LEFT", term::Align::kRight},
                     {.title = "DOING", .shrinkable = true}});
  for (const Entry* entry : shown) {
    const Job& job = entry->job;
    const moe::v1::JobProgress& progress = job.progress();
    const bool has_step = progress.has_last_step();
    const auto left = RemainingSeconds(job, entry->step_seconds, now_unix_millis);
    const std::string bar = BarText(job);
    const std::string doing =
        job.reason().empty() && !HasEnded(job.state()) ? progress.phase() : job.reason();
    table.AddRow({job.job_id(),
                  job.spec().name(),
                  {StateName(job.state()), StyleOf(job.state())},
                  bar.empty() ? "-" : bar,
                  has_step ? fmt::format("{:.4f}", progress.last_step().loss()) : "-",
                  has_step ? term::FormatCount(progress.last_step().tokens_per_second()) : "-",
                  job.has_start_time() ? term::FormatDuration(Elapsed(job, now_unix_millis)) : "-",
                  left ? term::FormatDuration(*left) : "-",
                  doing.empty() ? "-" : doing});
  }
  std::string text = table.Render({.width = terminal.columns, .color = terminal.color});
  if (terminal.columns <= 0) return text;
  // Where the terminal is narrower than the columns that do not shrink, cut: a wrapped line could
  // not be taken back.
  std::string cut;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    const std::string line = text.substr(begin, end - begin);
    const auto width = static_cast<size_t>(terminal.columns);
    if (term::DisplayWidth(line) <= width) {
      cut += line;
    } else {
      cut += term::Truncate(term::Plain(line), width);
    }
    cut += '\n';
    begin = end + 1;
  }
  return cut;
}

}  // namespace moe::moectl
