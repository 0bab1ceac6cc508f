// What is known of a job's inputs and output before anything runs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/job_spec.h"
#include "coordinator/spec/checker.h"
#include "moe/v1/artefact.pb.h"
#include "moe/v1/job_spec.pb.h"

namespace moe::coordinator {

struct ThingFacts {
  std::optional<v1::ArtefactKind> kind;  // absent for a path
  std::optional<ModelFacts> model;
  std::optional<artefacts::Vocabulary> vocabulary;  // of a dataset; absent where not known
  std::vector<std::string> domains;                 // of a dataset; empty where not known
  std::optional<bool> conversations;                // whether a dataset holds them
  int64_t step = 0;                                 // of a checkpoint; 0 where not known
};

ThingFacts FactsOf(const v1::Artefact& artefact);

// The inputs of one job of a pipeline.
class Inputs {
 public:
  explicit Inputs(const SpecFacts& outside) : outside_(outside) {}
  virtual ~Inputs() = default;

  // What is known of an input; checks that it exists and is of one of `kinds`.
  ThingFacts Look(Checker& check, const std::string& field, const v1::InputRef& input,
                  const std::vector<v1::ArtefactKind>& kinds, bool is_model) const;
  // As Look, for the model that a job works on.
  ThingFacts LookAtModel(Checker& check, const std::string& field, const v1::InputRef& input) const;
  // As Look, for a dataset.
  ThingFacts LookAtDataset(Checker& check, const std::string& field,
                           const v1::InputRef& input) const;
  const SpecFacts& outside() const { return outside_; }

 protected:
  // What the job of the same pipeline that makes `reference` puts out; nullptr where none does.
  virtual const ThingFacts* FindOutput(const std::string& reference) const = 0;
  virtual std::vector<std::string> OutputNames() const = 0;

 private:
  const SpecFacts& outside_;
};

// That a dataset was made with a model's vocabulary, as far as both are known.
void CheckVocabulary(Checker& check, const std::string& field, const ThingFacts& model,
                     const ThingFacts& dataset);
void CheckSequenceLength(Checker& check, const std::string& field, int32_t length,
                         const ThingFacts& model);

}  // namespace moe::coordinator
