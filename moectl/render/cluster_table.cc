#include "moectl/render/cluster_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <set>

#include "common/term/human.h"
#include "moectl/render/job_text.h"
#include "moectl/render/output.h"
#include "moectl/render/report_table.h"

namespace moe::moectl {
namespace {

using moe::v1::Artefact;
using moe::v1::Slot;
using moe::v1::Worker;

std::string Age(const google::protobuf::Timestamp& time, int64_t now_unix_millis) {
  return term::FormatAge(static_cast<double>(now_unix_millis - MillisOf(time)) / 1000);
}

std::string WorkerStateName(moe::v1::WorkerState state) {
  const std::string name = moe::v1::WorkerState_Name(state);
  return name.substr(std::string("WORKER_STATE_").size());
}

term::Style StyleOf(moe::v1::WorkerState state) {
  switch (state) {
    case moe::v1::WORKER_STATE_READY:
      return term::Style::kGreen;
    case moe::v1::WORKER_STATE_SUSPECT:
      return term::Style::kYellow;
    case moe::v1::WORKER_STATE_LOST:
      return term::Style::kRed;
    default:
      return term::Style::kPlain;
  }
}

// A drained worker that is not there is LOST first.
term::Cell StateCell(const Worker& worker, int busy) {
  if (worker.has_drain() && worker.state() == moe::v1::WORKER_STATE_READY) {
    return {busy > 0 ? "DRAINING" : "DRAINED", term::Style::kYellow};
  }
  return {WorkerStateName(worker.state()), StyleOf(worker.state())};
}

std::string NoteOf(const Worker& worker) {
  std::vector<std::string> notes;
  if (worker.has_drain()) {
    const moe::v1::Drain& drain = worker.drain();
    notes.push_back(fmt::format("drained{}: {}", drain.user().empty() ? "" : " by " + drain.user(),
                                drain.reason()));
  }
  if (!worker.avoided_by_job_ids().empty()) {
    notes.push_back(fmt::format("avoided by {}", fmt::join(worker.avoided_by_job_ids(), " ")));
  }
  return fmt::format("{}", fmt::join(notes, "; "));
}

}  // namespace

std::string ArtefactKindName(moe::v1::ArtefactKind kind) {
  std::string name = moe::v1::ArtefactKind_Name(kind).substr(std::string("ARTEFACT_KIND_").size());
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return name;
}

std::string RenderArtefactTable(const moe::v1::ListArtefactsResponse& artefacts, bool wide,
                                int64_t now_unix_millis, const term::TableLayout& layout) {
  std::vector<term::Column> columns = {
      {"NAME"}, {"KIND"}, {"STEP", term::Align::kRight}, {"SIZE", term::Align::kRight}, {"JOB"}};
  if (wide) columns.push_back({"PATH"});
  columns.push_back({"AGE"});
  term::Table table(columns);
  for (const Artefact& artefact : artefacts.artefacts()) {
    std::vector<term::Cell> row = {
        fmt::format("{}:{}", artefact.name(), artefact.version()),
        ArtefactKindName(artefact.kind()),
        artefact.step() == 0 ? std::string("-") : std::to_string(artefact.step()),
        term::FormatBytes(artefact.size_bytes()),
        fmt::format("{}.{}", artefact.job_id(), artefact.attempt())};
    if (wide) row.emplace_back(artefact.path());
    row.emplace_back(Age(artefact.create_time(), now_unix_millis));
    table.AddRow(std::move(row));
  }
  return table.Render(layout);
}

std::string RenderArtefactPage(const Artefact& artefact, int64_t now_unix_millis,
                               const term::TableLayout& layout) {
  std::string text = fmt::format(
      "Name:         {}:{}\n"
      "Kind:         {}\n"
      "Path:         {}\n"
      "Size:         {}\n"
      "Made by:      {}, attempt {}\n"
      "Created:      {} ({} ago)\n",
      artefact.name(), artefact.version(), ArtefactKindName(artefact.kind()), artefact.path(),
      term::FormatBytes(artefact.size_bytes()), artefact.job_id(), artefact.attempt(),
      TimeText(MillisOf(artefact.create_time())), Age(artefact.create_time(), now_unix_millis));
  if (artefact.step() > 0) text += fmt::format("Step:         {}\n", artefact.step());
  if (!artefact.inputs().empty()) {
    text += fmt::format("Inputs:       {}\n", fmt::join(artefact.inputs(), "\n              "));
  }
  google::protobuf::Struct facts = artefact.metadata();
  facts.mutable_fields()->erase("table");
  facts.mutable_fields()->erase("losses");  // the table has them
  const std::string table = RenderReportTable(artefact.metadata(), layout);
  if (!table.empty()) text += "\nResult:\n" + table;
  if (!facts.fields().empty()) text += "\nMetadata:\n" + ToYaml(facts);
  return text;
}

std::string RenderWorkerTable(const moe::v1::ListWorkersResponse& workers, bool wide,
                              int64_t now_unix_millis, const term::TableLayout& layout) {
  std::vector<term::Column> columns = {{"WORKER"},
                                       {"STATE"},
                                       {"SLOTS", term::Align::kRight},
                                       {"BUSY", term::Align::kRight},
                                       {"DEVICE"}};
  if (wide) columns.insert(columns.end(), {{"HOST"}, {"VERSION"}, {"ATTEMPTS"}});
  columns.push_back({"HEARD"});
  // Only where there is something to say.
  const bool has_notes = std::any_of(workers.workers().begin(), workers.workers().end(),
                                     [](const Worker& worker) { return !NoteOf(worker).empty(); });
  if (has_notes) columns.push_back({.title = "NOTE", .shrinkable = true});
  term::Table table(columns);
  for (const Worker& worker : workers.workers()) {
    std::set<std::string> devices;
    std::set<std::string> attempts;
    int busy = 0;
    for (const Slot& slot : worker.slots()) {
      devices.insert(slot.device());
      if (slot.attempt().empty()) continue;
      ++busy;
      attempts.insert(slot.attempt());
    }
    std::vector<term::Cell> row = {worker.worker_id(), StateCell(worker, busy),
                                   std::to_string(worker.slots_size()), std::to_string(busy),
                                   fmt::format("{}", fmt::join(devices, ", "))};
    if (wide) {
      row.insert(row.end(),
                 {worker.host(), worker.version(), fmt::format("{}", fmt::join(attempts, " "))});
    }
    row.emplace_back(worker.has_last_heartbeat_time()
                         ? Age(worker.last_heartbeat_time(), now_unix_millis) + " ago"
                         : std::string("-"));
    if (has_notes) row.emplace_back(NoteOf(worker).empty() ? "-" : NoteOf(worker));
    table.AddRow(std::move(row));
  }
  return table.Render(layout);
}

}  // namespace moe::moectl
