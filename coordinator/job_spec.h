// What a valid pipeline is: the owner of the defaults and limits in proto/moe/v1/job_spec.proto.
//
// A pure function of the specs and of facts about the outside, which come through an interface.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/queues/queue_tree.h"
#include "moe/v1/artefact.pb.h"
#include "moe/v1/job_spec.pb.h"
#include "planner/machine.h"
#include "storage/artefacts/model_config.h"
#include "storage/artefacts/vocabulary.h"

namespace moe::coordinator {

// The facts about a model that specs are checked against.
struct ModelFacts {
  int64_t vocab_size = 0;
  int64_t intermediate_size = 0;
  int64_t context_length = 0;
  int64_t num_experts = 0;  // 0: dense
  int64_t num_layers = 0;   // 0: not known
  // The whole shape, where it is known: what estimates are made from.
  std::optional<artefacts::ModelConfig> shape = std::nullopt;
  std::optional<uint32_t> tokenizer_crc32c = std::nullopt;  // absent where it is not known
};

// What validation asks about files and artefacts.
class SpecFacts {
 public:
  virtual ~SpecFacts() = default;
  // The model in the file or folder. The error says what is wrong with it and what to do.
  virtual absl::StatusOr<ModelFacts> ReadModel(const std::string& path) const = 0;
  // Whether there is a model at `path`, not a tokenizer alone.
  virtual bool HoldsModel(const std::string& path) const = 0;
  // OK where the file or folder exists and can be read; `is_empty` where there is no file in it.
  virtual absl::Status CheckReadable(const std::string& path, bool* is_empty) const = 0;
  // "name" or "name:version"; nullptr where the catalogue has none.
  virtual const v1::Artefact* FindArtefact(const std::string& reference) const = 0;
  // The slot that a rank may hope for; nullopt where none is known, or none matters.
  virtual std::optional<planner::Machine> LargestSlot() const { return std::nullopt; }
  // The queues that jobs can be submitted to.
  virtual const QueueTree& queues() const;
  // Whether there is a job with this id.
  virtual bool HasJob(const std::string& job_id) const { return false; }
};

// How another job must have ended.
enum class JobOutcome { kOk, kAny, kNotOk };

// A dependency on the outcome of a job: of the same pipeline, or an earlier one.
struct JobDependency {
  JobOutcome outcome = JobOutcome::kOk;
  int job = -1;             // index into the pipeline
  std::string job_id = {};  // where `job` is -1
};

// A spec with every default filled in, and the jobs that it depends on.
struct CompleteJob {
  v1::JobSpec spec;
  std::vector<int> needs;                 // indices into the pipeline, ascending: must succeed
  std::vector<JobDependency> after = {};  // what the spec's after_* say
  // Of the model that a train job works on, where it is known.
  std::optional<artefacts::ModelConfig> model_shape = std::nullopt;
};

// INVALID_ARGUMENT: "job 'construct': experts=7 does not divide the FFN width 1536; use one of
// 2, 3, 4, ...". The jobs come back in the order given.
absl::StatusOr<std::vector<CompleteJob>> CompletePipeline(const std::vector<v1::JobSpec>& jobs,
                                                          const SpecFacts& facts);

// The settings of a train or finetune job; nullptr for other kinds.
const v1::TrainSpec* TrainSettings(const v1::JobSpec& spec);

// "train".
std::string KindName(const v1::JobSpec& spec);
// The name under which a job's output is catalogued, and its kind.
std::string OutputName(const v1::JobSpec& spec);
v1::ArtefactKind OutputKind(const v1::JobSpec& spec);
// "dataset".
std::string KindName(v1::ArtefactKind kind);

// What a job reads, keyed by the field of its kind's spec: "model", "dataset", "models.0",
// "calibrate.dataset".
std::map<std::string, v1::InputRef> InputsOf(const v1::JobSpec& spec);

// "name:version".
std::string ArtefactReference(const v1::Artefact& artefact);
// What an artefact's metadata states; nullopt where it states no vocabulary.
std::optional<artefacts::Vocabulary> VocabularyOf(const v1::Artefact& artefact);

}  // namespace moe::coordinator
