#include "moectl/commands/job_watch.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <set>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/status.h"
#include "common/term/live_region.h"
#include "moectl/commands/commands.h"
#include "moectl/follow_stream.h"
#include "moectl/render/job_text.h"
#include "moectl/render/watch_board.h"

namespace moe::moectl {
namespace {

using moe::v1::Job;
using moe::v1::WatchJobsRequest;
using moe::v1::WatchJobsResponse;

// Times on the screen are shown in seconds.
constexpr absl::Duration kRedrawInterval = absl::Seconds(1);

// What the stream's thread hands to the thread that draws.
struct News {
  // A change, or a message for the user.
  WatchJobsResponse change = {};
  std::string message = {};
};

// Reads the changes of some jobs on a thread of its own, through restarts of the coordinator.
class ChangeReader {
 public:
  ChangeReader(const FollowOptions& options, const std::vector<Job>& jobs) : options_(options) {
    for (const Job& job : jobs) {
      request_.add_job_ids(job.job_id());
      if (!HasEnded(job.state())) open_.insert(job.job_id());
    }
    request_.set_until_ended(true);
    request_.set_batch(true);
    options_.on_lost = [this] {
      Push({.message = fmt::format("lost the coordinator at {}: trying to reconnect",
                                   options_.client->endpoint())});
    };
    options_.on_back = [this] { Push({.message = "connected again"}); };
    thread_ = std::thread([this] { Run(); });
  }
  ~ChangeReader() { thread_.join(); }

  // Everything new, waiting up to `timeout` for it. False once there will be nothing more.
  bool Take(absl::Duration timeout, std::vector<News>* news) {
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(this, &ChangeReader::HasNews), timeout);
    news->assign(queue_.begin(), queue_.end());
    queue_.clear();
    return !finished_ || !news->empty();
  }

  // Valid after Take has returned false.
  absl::Status status() const {
    absl::MutexLock lock(&mutex_);
    return status_;
  }

 private:
  bool HasNews() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return finished_ || !queue_.empty();
  }

  void Push(News news) {
    absl::MutexLock lock(&mutex_);
    queue_.push_back(std::move(news));
  }

  void Hear(const WatchJobsResponse& change) {
    // One revision may change several jobs, and the connection may go between them; what comes
    // twice is shown once.
    request_.set_from_revision(std::max(request_.from_revision(), change.job().revision() - 1));
    if (HasEnded(change.job().state())) open_.erase(change.job().job_id());
    News news = {.change = change};
    news.change.clear_more();  // heard by themselves
    Push(std::move(news));
  }

  void Run() {
    absl::Status status;
    do {
      status = FollowStream<WatchJobsResponse>(
          options_,
          [this](grpc::ClientContext* context) {
            return options_.client->jobs().WatchJobs(context, request_);
          },
          [this](const WatchJobsResponse& message) {
            Hear(message);
            for (const WatchJobsResponse& change : message.more()) Hear(change);
          });
      // A coordinator that shuts down may end the stream in peace.
    } while (status.ok() && !open_.empty() && !options_.interrupt->WaitFor(200));
    if (status.ok() && !open_.empty()) status = Cancelled("interrupted");
    absl::MutexLock lock(&mutex_);
    status_ = status;
    finished_ = true;
  }

  FollowOptions options_;
  // Of the reading thread.
  WatchJobsRequest request_;
  std::set<std::string> open_;

  mutable absl::Mutex mutex_;
  std::deque<News> queue_ ABSL_GUARDED_BY(mutex_);
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

// Shows news in one of the three ways.
class WatchScreen {
 public:
  WatchScreen(const CommandContext& context, WatchStyle style, const std::vector<Job>& jobs)
      : context_(context), style_(style), board_(jobs), region_(context.world.out) {}

  void Show(const std::vector<News>& all_news) {
    std::string lines;
    for (const News& news : all_news) {
      if (!news.message.empty()) {
        // On a terminal both streams end up in the same place, and only one may write to it.
        if (IsLive()) {
          lines += news.message + "\n";
        } else {
          context_.Note(news.message);
        }
        continue;
      }
      const std::string line = board_.Update(news.change, Now());
      if (line.empty()) continue;
      // On a terminal the table shows progress; only events are worth a line that stays.
      if (!IsLive() || news.change.has_event()) lines += line + "\n";
    }
    if (style_ != WatchStyle::kLive) return;
    if (IsLive()) {
      region_.Draw(lines, board_.RenderRegion(Now(), context_.Terminal()));
    } else {
      context_.world.out << lines << std::flush;
    }
  }

  bool IsLive() const {
    return style_ == WatchStyle::kLive && context_.world.terminal().is_terminal;
  }
  const WatchBoard& board() const { return board_; }

 private:
  int64_t Now() const { return context_.world.clock.UnixMillis(); }

  const CommandContext& context_;
  const WatchStyle style_;
  WatchBoard board_;
  term::LiveRegion region_;
};

// What to type to mean these jobs: their pipeline where it is one, else their ids.
std::string NamesOf(const std::vector<Job>& jobs) {
  std::set<std::string> pipelines;
  std::string ids;
  for (const Job& job : jobs) {
    pipelines.insert(job.pipeline_id());
    ids += (ids.empty() ? "" : " ") + job.job_id();
  }
  return jobs.size() > 1 && pipelines.size() == 1 ? *pipelines.begin() : ids;
}

std::string Outcome(const Job& job) {
  return fmt::format("job/{} {}", job.job_id(), StateWord(job.state()));
}

}  // namespace

absl::StatusOr<ExitCode> FollowJobs(const CommandContext& context, CoordinatorClient& client,
                                    const std::vector<Job>& jobs, WatchStyle style) {
  MOE_ASSIGN_OR_RETURN(const auto timeout_ms, context.TimeoutMillis());
  context.world.interrupt.CatchSignals();
  WatchScreen screen(context, style, jobs);
  ChangeReader reader({.client = &client,
                       .clock = &context.world.clock,
                       .interrupt = &context.world.interrupt,
                       .give_up_after_ms = timeout_ms.value_or(kDefaultGiveUpMs)},
                      jobs);
  std::vector<News> news;
  while (reader.Take(kRedrawInterval, &news)) screen.Show(news);

  const absl::Status status = reader.status();
  if (status.code() == absl::StatusCode::kCancelled) {
    context.Note(fmt::format("interrupted; {} Watch again: moectl job watch {}",
                             jobs.size() == 1 ? "the job goes on." : "the jobs go on.",
                             NamesOf(jobs)));
    return ExitCode::kInterrupted;
  }
  MOE_RETURN_IF_ERROR(status);
  const std::vector<Job> unsuccessful = screen.board().Unsuccessful();
  const ExitCode code = unsuccessful.empty() ? ExitCode::kDone : ExitCode::kJobUnsuccessful;
  if (style == WatchStyle::kSilent) return code;
  if (style == WatchStyle::kQuiet) {
    for (const Job& job : screen.board().jobs()) context.world.out << Outcome(job) << "\n";
  }
  for (const Job& job : unsuccessful) {
    context.Note(fmt::format(
        "{} ({}){}", Outcome(job), job.spec().name(),
        job.reason().empty() || job.reason() == StateWord(job.state()) ? "" : ": " + job.reason()));
  }
  if (!unsuccessful.empty()) {
    context.Note(fmt::format("look closer: moectl job describe {0}; moectl job logs {0}",
                             unsuccessful.front().job_id()));
  }
  return code;
}

namespace {

struct WatchOptions {
  std::vector<std::string> names;
};

absl::StatusOr<ExitCode> Watch(const WatchOptions& options, const CommandContext& context,
                               WatchStyle style) {
  MOE_ASSIGN_OR_RETURN(CoordinatorClient client, context.Connect());
  const std::vector<std::string> names = WithoutNouns(options.names);
  std::vector<Job> jobs;
  if (names.empty()) {
    MOE_ASSIGN_OR_RETURN(const auto listed, client.ListJobs({}));
    for (const Job& job : listed.jobs()) {
      if (!HasEnded(job.state())) jobs.insert(jobs.begin(), job);
    }
    if (jobs.empty()) {
      context.Note("no job is waiting or running");
      return ExitCode::kDone;
    }
  } else {
    MOE_ASSIGN_OR_RETURN(jobs, client.ResolveJobs(names));
  }
  return FollowJobs(context, client, jobs, style);
}

}  // namespace

void AddJobWatch(CLI::App& job, CommandContext& context) {
  auto options = std::make_shared<WatchOptions>();
  CLI::App* command = job.add_subcommand("watch", "Follow jobs until all of them have ended");
  command->add_option("JOB", options->names,
                      "Jobs (id or name) or pipelines (p4); default: all that have not ended");
  command->footer(
      "On a terminal: a table in place. In a pipe: a line per change. The command outlives\n"
      "restarts of the coordinator; Ctrl-C ends the command and not the jobs. Exit code 5 where a\n"
      "job failed or was cancelled.\n\n"
      "Examples:\n"
      "  moectl job watch p4\n"
      "  moectl job watch train evaluate");
  command->callback([options, &context] {
    context.run = [options, &context] { return Watch(*options, context, WatchStyle::kLive); };
  });
}

void AddJobWait(CLI::App& job, CommandContext& context) {
  auto options = std::make_shared<WatchOptions>();
  CLI::App* command = job.add_subcommand("wait", "Wait until jobs have ended, without a word");
  command->add_option("JOB", options->names, "Jobs (id or name) or pipelines (p4)")->required();
  command->footer(
      "Exit code 5 where a job failed or was cancelled.\n\n"
      "Examples:\n"
      "  moectl job wait train && moectl job steps train -o csv > loss.csv");
  command->callback([options, &context] {
    context.run = [options, &context] { return Watch(*options, context, WatchStyle::kQuiet); };
  });
}

}  // namespace moe::moectl
