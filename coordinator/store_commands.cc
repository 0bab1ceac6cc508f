#include "coordinator/store_commands.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "common/file.h"
#include "common/json.h"
#include "common/status.h"
#include "coordinator/control_socket.h"
#include "storage/artefacts/manifest.h"
#include "storage/rocks/backup.h"
#include "storage/rocks/fsck.h"

namespace moe::coordinator {
namespace {

struct StoreFlags {
  std::string data_dir;
  std::string folder;  // of backups
  bool check_artefacts = false;
  int keep = 7;
  uint32_t id = 0;
  bool list = false;

  std::string store() const { return JoinPath(data_dir, "store"); }
};

int Fail(const absl::Status& status) {
  fmt::print(stderr, "moe-coordinator: {}\n", Message(status));
  return 1;
}

std::string Time(int64_t unix_seconds) {
  return fmt::format("{:%Y-%m-%d %H:%M:%S} UTC", fmt::gmtime(static_cast<time_t>(unix_seconds)));
}

std::string Describe(const storage::Backup& backup) {
  return fmt::format("backup {} of {}, {:.1f} MiB", backup.id, Time(backup.unix_seconds),
                     static_cast<double>(backup.size_bytes) / (1 << 20));
}

// That the folder in the catalogue is what was committed.
absl::Status CheckFolder(const v1::Artefact& artefact) {
  const uint32_t crc32c = artefact.manifest_crc32c();
  MOE_ASSIGN_OR_RETURN(const artefacts::Manifest manifest,
                       artefacts::ReadManifest(artefact.path(), &crc32c));
  return artefacts::CheckSizes(artefact.path(), manifest);
}

void Print(const std::vector<storage::Finding>& findings) {
  for (const storage::Finding& finding : findings) {
    fmt::print("{}: {}\n    {}\n", finding.where, finding.problem, finding.advice);
  }
}

int RunFsck(const StoreFlags& flags) {
  std::vector<storage::Finding> missing;
  const auto report = storage::Fsck(flags.store(), [&](const v1::Artefact& artefact) {
    if (!flags.check_artefacts) return;
    const absl::Status status = CheckFolder(artefact);
    if (status.ok()) return;
    missing.push_back({fmt::format("artefacts/{}:{}", artefact.name(), artefact.version()),
                       Message(status),
                       "jobs that read it will fail; bring the folder back, or make it again"});
  });
  if (!report.ok()) return Fail(report.status());
  Print(report->findings);
  Print(missing);
  const uint64_t count = report->num_findings + missing.size();
  if (report->num_findings > report->findings.size()) {
    fmt::print("... and {} more\n", report->num_findings - report->findings.size());
  }
  fmt::print("{}: version {}, {} records, {}\n", flags.store(), report->schema_version,
             report->num_records,
             count == 0 ? "nothing is wrong" : fmt::format("{} things are wrong", count));
  return count == 0 ? 0 : 1;
}

// From the coordinator that has the store.
absl::StatusOr<storage::Backup> AskForBackup(const StoreFlags& flags) {
  MOE_ASSIGN_OR_RETURN(
      const Json answer,
      AskCoordinator(flags.data_dir, {{"command", "backup"},
                                      {"to", std::filesystem::absolute(flags.folder).string()},
                                      {"keep", flags.keep}}));
  JsonReader reader(answer, "the coordinator's answer");
  const storage::Backup backup = {.id = static_cast<uint32_t>(reader.Uint("id")),
                                  .unix_seconds = reader.Int("unix_seconds"),
                                  .size_bytes = reader.Uint("size_bytes")};
  MOE_RETURN_IF_ERROR(reader.status());
  return backup;
}

int RunBackup(const StoreFlags& flags) {
  auto backup = AskForBackup(flags);
  if (absl::IsUnavailable(backup.status())) {
    backup = storage::MakeBackup(flags.store(), flags.folder, flags.keep);
  }
  if (!backup.ok()) return Fail(backup.status());
  fmt::print("{}: {}\n", flags.folder, Describe(*backup));
  return 0;
}

int ListBackups(const StoreFlags& flags) {
  const auto backups = storage::ListBackups(flags.folder);
  if (!backups.ok()) return Fail(backups.status());
  for (const storage::Backup& backup : *backups) fmt::print("{}\n", Describe(backup));
  return 0;
}

int RunRestore(const StoreFlags& flags) {
  if (flags.list) return ListBackups(flags);
  if (flags.data_dir.empty()) return Fail(InvalidArgument("--data-dir is missing; give a folder"));
  if (const absl::Status made = MakeDirectories(flags.data_dir); !made.ok()) return Fail(made);
  const auto restored = storage::RestoreBackup(flags.folder, flags.id, flags.store());
  if (!restored.ok()) return Fail(restored.status());
  fmt::print("{}: {}\n", flags.store(), Describe(restored->backup));
  if (!restored->set_aside.empty()) {
    fmt::print("the store that was there is in {}; remove it when it is not needed any more\n",
               restored->set_aside);
  }
  if (restored->skipped_jobs > 0) {
    fmt::print("{} job numbers are left out: they were, or may have been, given since the backup\n",
               restored->skipped_jobs);
  }
  return 0;
}

int RunCompact(const StoreFlags& flags) {
  const auto compaction = storage::CompactStore(flags.store());
  if (!compaction.ok()) return Fail(compaction.status());
  fmt::print("{}: {:.1f} MiB, were {:.1f} MiB\n", flags.store(),
             static_cast<double>(compaction->bytes_after) / (1 << 20),
             static_cast<double>(compaction->bytes_before) / (1 << 20));
  return 0;
}

}  // namespace

void AddStoreCommands(CLI::App& app, int* exit_code) {
  auto flags = std::make_shared<StoreFlags>();
  const auto add = [&](const char* name, const char* help, int (*run)(const StoreFlags&)) {
    CLI::App* command = app.add_subcommand(name, help);
    command->callback([flags, exit_code, run] { *exit_code = run(*flags); });
    return command;
  };
  const auto add_data_dir = [&](CLI::App* command) {
    return command->add_option("--data-dir", flags->data_dir, "Folder of the store");
  };

  CLI::App* fsck = add(
      "fsck", "Look at every record of the store and say what is wrong, and what to do", RunFsck);
  add_data_dir(fsck)->required();
  fsck->add_flag("--artefacts", flags->check_artefacts,
                 "Also look for the folders of all artefacts: their manifests and sizes");

  CLI::App* backup = add(
      "backup", "Add a backup of the store to a folder of backups; a coordinator that runs goes on",
      RunBackup);
  add_data_dir(backup)->required();
  backup->add_option("--to", flags->folder, "Folder of the backups")->required();
  backup->add_option("--keep", flags->keep, "Backups to keep; older ones are removed")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();

  CLI::App* restore = add("restore", "Bring a backup back as the store", RunRestore);
  add_data_dir(restore);
  restore->add_option("--from", flags->folder, "Folder of the backups")->required();
  restore->add_option("--backup", flags->id, "Which backup [the newest]");
  restore->add_flag("--list", flags->list, "Only show the backups that are there");

  CLI::App* compact =
      add("compact", "Rewrite the store without what was deleted or replaced", RunCompact);
  add_data_dir(compact)->required();
}

}  // namespace moe::coordinator
