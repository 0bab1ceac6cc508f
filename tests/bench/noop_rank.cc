// A rank that does nothing but what every job must: it is forked and executed, reports, hands in an
// output with a durable manifest, waits for it to be catalogued, and ends. Stands in for
// moe-prepare where the control plane is measured or broken.
//
// Its first act is a line "j17.2 UNIX_NANOSECONDS" at the end of $MOE_NOOP_STARTS, in one write: a
// record, kept outside the service, of which attempts were started and when.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "common/file.h"
#include "common/run_channel.h"
#include "common/status.h"
#include "storage/artefacts/manifest.h"

namespace moe {
namespace {

absl::Status RecordStart(const std::string& run_dir) {
  const int64_t nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(
                                  std::chrono::system_clock::now().time_since_epoch())
                                  .count();
  const char* path = std::getenv("MOE_NOOP_STARTS");
  if (path == nullptr) return FailedPrecondition("MOE_NOOP_STARTS is not set; name a file");
  const int fd = ::open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) return FailedPrecondition("cannot open {} for appending", path);
  const std::string attempt = run_dir.substr(run_dir.rfind('/') + 1);
  const std::string line = fmt::format("{} {}\n", attempt, nanoseconds);
  const absl::Status written = WriteAll(fd, line.data(), line.size(), path);
  ::close(fd);
  return written;
}

absl::Status HandIn(RunChannel& channel) {
  const Json& run = channel.run_spec();
  const Json& output = run.at("output");
  const std::string dir = output.at("dir");
  MOE_RETURN_IF_ERROR(MakeDirectories(dir));
  artefacts::Manifest manifest;
  manifest.kind = output.at("kind");
  manifest.name = output.at("name");
  manifest.job_id = run.at("job_id");
  manifest.attempt = run.at("attempt");
  MOE_ASSIGN_OR_RETURN(const artefacts::WrittenManifest written,
                       artefacts::WriteManifest(dir, manifest));
  channel.Report("artefact", {{"name", manifest.name},
                              {"kind", "ARTEFACT_KIND_DATASET"},
                              {"path", dir},
                              {"manifest_crc32c", written.crc32c}});
  return channel.WaitForCommit(dir);
}

absl::Status Run(const std::string& run_dir, int rank) {
  MOE_RETURN_IF_ERROR(RecordStart(run_dir));
  MOE_ASSIGN_OR_RETURN(const auto channel, RunChannel::Open({.run_dir = run_dir, .rank = rank}));
  channel->Report("started", {{"pid", ::getpid()}, {"device", "none"}});
  MOE_RETURN_IF_ERROR(HandIn(*channel));
  channel->Report("finished", {{"summary", "did nothing"}});
  return absl::OkStatus();
}

}  // namespace
}  // namespace moe

// Called as moe-worker calls a rank: --run-dir DIR --rank N --threads N.
int main(int argc, char** argv) {
  if (argc < 5) return 2;
  const absl::Status status = moe::Run(argv[2], std::atoi(argv[4]));
  if (status.ok()) return 0;
  std::fprintf(stderr, "noop_rank: %s\n", moe::Message(status).c_str());
  return 1;
}
