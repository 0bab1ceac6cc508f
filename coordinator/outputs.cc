#include "coordinator/outputs.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "common/file.h"
#include "common/status.h"
#include "coordinator/job_spec.h"
#include "coordinator/timestamp.h"

namespace moe::coordinator {

bool IsInside(const std::string& path, const std::string& folder) {
  return path == folder || (path.size() > folder.size() && path.rfind(folder, 0) == 0 &&
                            path[folder.size()] == '/' && path.find("/../") == std::string::npos);
}

std::string WorkDir(const std::string& artefact_root, const v1::Job& job) {
  if (!job.spec().has_prepare()) return "";
  return JoinPath(JoinPath(artefact_root, KindName(OutputKind(job.spec()))),
                  job.job_id() + ".unfinished");
}

absl::Status Outputs::Refuse(const Attempt& attempt, const v1::ArtefactWritten& written) const {
  const v1::JobSpec& spec = parts_.jobs->Find(attempt.job)->job().spec();
  if (attempt.record.ended()) {
    return Aborted("attempt {} has ended", FormatAttempt(attempt.job, attempt.number));
  }
  if (!IsInside(written.path(), attempt.record.output_dir())) {
    return InvalidArgument("artefact path {} is not inside the attempt's folder {}", written.path(),
                           attempt.record.output_dir());
  }
  if (written.name() != OutputName(spec) || written.kind() != OutputKind(spec)) {
    return InvalidArgument("artefact {} of kind {} is not the job's output {} of kind {}",
                           written.name(), KindName(written.kind()), OutputName(spec),
                           KindName(OutputKind(spec)));
  }
  return absl::OkStatus();
}

void Outputs::Commit(Turn& turn, Attempt& attempt, const v1::ArtefactWritten& written) {
  v1::JobRecord& record = *parts_.jobs->Find(attempt.job);
  v1::Artefact artefact;
  artefact.set_name(written.name());
  artefact.set_kind(written.kind());
  artefact.set_path(written.path());
  artefact.set_manifest_crc32c(written.manifest_crc32c());
  artefact.set_size_bytes(written.size_bytes());
  artefact.set_job_id(record.job().job_id());
  artefact.set_attempt(attempt.number);
  *artefact.mutable_create_time() = ToTimestamp(turn.unix_millis);
  *artefact.mutable_inputs() = written.inputs();
  *artefact.mutable_metadata() = written.metadata();
  artefact.set_step(written.step());
  const v1::Artefact& stored =
      parts_.catalog->Add(turn, std::move(artefact), parts_.jobs->NewRevision(turn));
  const std::string reference = ArtefactReference(stored);
  record.mutable_job()->add_outputs(reference);
  const bool is_checkpoint = stored.kind() == v1::ARTEFACT_KIND_CHECKPOINT;
  if (is_checkpoint) {
    record.set_resume_artefact(reference);
    RetainCheckpoints(turn, record, stored.name());
  }
  parts_.jobs->Note(turn, record, v1::CAUSE_UNSPECIFIED,
                    is_checkpoint ? fmt::format("committed {} at step {}", reference, stored.step())
                                  : fmt::format("committed {}", reference));
  parts_.observer->OnArtefact(record.job(), stored, written);
}

std::set<std::string> Outputs::ProtectedArtefacts() const {
  std::set<std::string> references;
  for (const auto& [id, attempt] : *parts_.attempts) {
    references.insert(attempt.record.input_artefacts().begin(),
                      attempt.record.input_artefacts().end());
  }
  parts_.jobs->ForEachLive([&](v1::JobRecord& record) {
    references.insert(record.resume_artefact());
    for (const auto& [field, input] : InputsOf(record.job().spec())) {
      if (input.has_artefact()) references.insert(input.artefact());
    }
  });
  return references;
}

void Outputs::RetainCheckpoints(Turn& turn, v1::JobRecord& record, const std::string& name) {
  std::vector<v1::Artefact> checkpoints;  // copies: removal invalidates the catalogue's own
  for (const v1::Artefact* artefact : parts_.catalog->MadeBy(record.job().job_id())) {
    if (artefact->kind() == v1::ARTEFACT_KIND_CHECKPOINT && artefact->name() == name) {
      checkpoints.push_back(*artefact);
    }
  }
  const auto keep = static_cast<size_t>(TrainSettings(record.job().spec())->checkpoint().keep());
  if (checkpoints.size() <= keep) return;
  const std::set<std::string> is_protected = ProtectedArtefacts();
  checkpoints.resize(checkpoints.size() - keep);
  for (const v1::Artefact& artefact : checkpoints) {
    if (is_protected.contains(ArtefactReference(artefact))) continue;
    Forget(turn, record, artefact);
    turn.After([this, path = artefact.path()] {
      parts_.file_work->Post([files = parts_.files, path] { files->Remove(path); });
    });
  }
}

void Outputs::Forget(Turn& turn, v1::JobRecord& record, const v1::Artefact& artefact) {
  const std::string reference = ArtefactReference(artefact);
  auto& outputs = *record.mutable_job()->mutable_outputs();
  outputs.erase(std::remove(outputs.begin(), outputs.end(), reference), outputs.end());
  parts_.catalog->Remove(turn, artefact.name(), artefact.version());
}

void Outputs::LeaveDamaged(Turn& turn, const Attempt& attempt) {
  v1::JobRecord& record = *parts_.jobs->Find(attempt.job);
  const v1::Artefact* found = parts_.catalog->Find(record.resume_artefact());
  if (found == nullptr || found->job_id() != record.job().job_id()) return;
  const v1::Artefact damaged = *found;  // a copy: removal invalidates the catalogue's own
  // The newest of its own that is older, else the one of another job that it continues.
  const v1::Artefact* before = nullptr;
  const bool continues = TrainSettings(record.job().spec())->start() == "continue";
  for (const std::string& reference : attempt.record.input_artefacts()) {
    const v1::Artefact* input = parts_.catalog->Find(reference);
    if (continues && input != nullptr && input->kind() == damaged.kind()) before = input;
  }
  for (const v1::Artefact* own : parts_.catalog->MadeBy(record.job().job_id())) {
    if (own->kind() == damaged.kind() && own->step() < damaged.step()) before = own;
  }
  record.set_resume_artefact(before == nullptr ? "" : ArtefactReference(*before));
  parts_.jobs->Note(
      turn, record, v1::CAUSE_DAMAGED_CHECKPOINT,
      fmt::format("{} at step {} is damaged and no longer in the catalogue; {}",
                  ArtefactReference(damaged), damaged.step(),
                  before == nullptr ? "there is none before it, so that the job starts over"
                                    : fmt::format("goes on from step {} ({})", before->step(),
                                                  ArtefactReference(*before))));
  Forget(turn, record, damaged);
}

}  // namespace moe::coordinator
