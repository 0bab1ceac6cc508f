#include "moectl/render/job_page.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <optional>

#include "common/term/human.h"
#include "common/term/progress_bar.h"
#include "moectl/render/job_table.h"
#include "moectl/render/job_text.h"
#include "moectl/render/output.h"
#include "moectl/render/report_table.h"

namespace moe::moectl {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using moe::v1::InputRef;
using moe::v1::Job;

constexpr int kLabelWidth = 14;
constexpr int kBarWidth = 32;

std::string Field(const std::string& label, const std::string& value) {
  if (value.empty()) return "";
  return fmt::format("{:<{}}{}\n", label + ":", kLabelWidth, value);
}

std::string Indented(const std::string& text) {
  std::string result;
  size_t begin = 0;
  while (begin < text.size()) {
    const size_t end = std::min(text.find('\n', begin), text.size() - 1);
    result += "  " + text.substr(begin, end - begin + 1);
    begin = end + 1;
  }
  return result;
}

std::string RefText(const InputRef& ref) {
  return ref.has_artefact() ? "artefact " + ref.artefact() : ref.path();
}

// Every InputRef of the job's kind, in the order of its fields: "model: artefact smollm2-moe",
// "models[1]: ...".
void CollectInputs(const Message& message, const std::string& label,
                   std::vector<std::string>* inputs) {
  if (message.GetDescriptor() == InputRef::descriptor()) {
    inputs->push_back(label + ": " + RefText(static_cast<const InputRef&>(message)));
    return;
  }
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || field->is_map()) continue;
    const auto* reflection = message.GetReflection();
    if (!field->is_repeated()) {
      CollectInputs(reflection->GetMessage(message, field), label.empty() ? field->name() : label,
                    inputs);
      continue;
    }
    for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
      CollectInputs(reflection->GetRepeatedMessage(message, field, i),
                    fmt::format("{}[{}]", field->name(), i), inputs);
    }
  }
}

const Message* KindMessage(const Job& job) {
  const auto* kind = moe::v1::JobSpec::descriptor()->FindOneofByName("kind");
  const auto* reflection = job.spec().GetReflection();
  const FieldDescriptor* field = reflection->GetOneofFieldDescriptor(job.spec(), kind);
  return field == nullptr ? nullptr : &reflection->GetMessage(job.spec(), field);
}

std::string TimeLine(const std::string& label, const google::protobuf::Timestamp& time,
                     int64_t now_unix_millis) {
  const int64_t millis = MillisOf(time);
  const double age_seconds = static_cast<double>(now_unix_millis - millis) / 1000;
  return Field(label, fmt::format("{} ({} ago)", TimeText(millis), term::FormatAge(age_seconds)));
}

std::string Progress(const Job& job, int64_t now_unix_millis) {
  const moe::v1::JobProgress& progress = job.progress();
  std::string text = ProgressText(progress);
  if (progress.total() > 0) {
    text = term::ProgressBar(progress.done(), progress.total(), kBarWidth) + " " + text;
  }
  if (const auto left = RemainingSeconds(job, 0, now_unix_millis)) {
    text += fmt::format(", {} left", term::FormatDuration(*left));
  }
  return Field("Progress", text) + Field("Phase", progress.phase());
}

std::string LabelsText(const moe::v1::JobSpec& spec) {
  std::vector<std::string> labels;
  for (const auto& [key, value] : spec.labels()) labels.push_back(key + "=" + value);
  std::sort(labels.begin(), labels.end());  // a map has no order
  return fmt::format("{}", fmt::join(labels, " "));
}

std::string LastStep(const moe::v1::StepReport& step, const term::TableLayout& layout) {
  std::string text = fmt::format(
      "\nLast step:\n  step {}: loss {:.4f}, balance loss {:.4f}, learning rate {:.3g}, gradient "
      "norm {:.3f}\n  {:.2f} s, {:.0f} tokens/s, {} tokens so far\n",
      step.step(), step.loss(), step.balance_loss(), step.learning_rate(), step.gradient_norm(),
      step.step_seconds(), step.tokens_per_second(), step.tokens());
  if (step.domains().empty()) return text;
  term::Table table({{"DOMAIN"}, {"SAMPLES", term::Align::kRight}, {"LOSS", term::Align::kRight}});
  for (const moe::v1::DomainCount& domain : step.domains()) {
    table.AddRow({domain.domain(), std::to_string(domain.samples()),
                  domain.has_loss() ? fmt::format("{:.4f}", domain.loss()) : std::string()});
  }
  return text + Indented(table.Render(layout));
}

std::string LastValidation(const moe::v1::StepReport& step, const term::TableLayout& layout) {
  term::Table table({{"DOMAIN"}, {"HELD-OUT LOSS", term::Align::kRight}});
  for (const moe::v1::DomainCount& domain : step.domains()) {
    if (!domain.has_heldout_loss()) continue;
    table.AddRow({domain.domain(), fmt::format("{:.4f}", domain.heldout_loss())});
  }
  return fmt::format("\nLast validation, step {}:\n{}", step.step(),
                     Indented(table.Render(layout)));
}

}  // namespace

std::string RenderJobPage(const JobPage& page, int64_t now_unix_millis,
                          const term::TableLayout& layout) {
  const Job& job = page.job;
  std::string text;
  text += Field("Job", job.job_id());
  text += Field("Name", job.spec().name());
  text += Field("Kind", KindOf(job.spec()));
  text += Field("Pipeline", job.pipeline_id());
  text += Field("User", job.user());
  text += Field("Queue", job.spec().queue());
  text += Field("Labels", LabelsText(job.spec()));
  if (job.spec().time_limit_seconds() > 0) {
    text += Field("Time limit",
                  term::FormatDuration(static_cast<double>(job.spec().time_limit_seconds())));
  }
  text += Field("Etag", job.etag());
  if (job.spec().has_array()) {
    const moe::v1::ArrayProgress& elements = job.array();
    text +=
        Field("Elements", fmt::format("{} succeeded, {} failed, {} cancelled, {} live, {} to come",
                                      elements.succeeded(), elements.failed(), elements.cancelled(),
                                      elements.live(), elements.waiting()));
  }
  if (!job.array_job_id().empty()) {
    text += Field("Element", fmt::format("{} of {}", job.array_index(), job.array_job_id()));
  }
  text += Field("State", term::Paint(StateName(job.state()), StyleOf(job.state()), layout.color));
  text += Field("Cause", CauseName(job.cause()));
  text += Field("Reason", job.reason());
  if (job.attempt() > 0) text += Field("Attempt", std::to_string(job.attempt()));
  if (job.infrastructure_failures() > 0) {
    text += Field("Failures", fmt::format("{} of {} that are allowed before the job fails",
                                          job.infrastructure_failures(),
                                          job.spec().max_infrastructure_retries()));
  }
  text += Field("Placement", PlacementText(job));
  text += TimeLine("Created", job.create_time(), now_unix_millis);
  if (job.has_start_time()) text += TimeLine("Started", job.start_time(), now_unix_millis);
  if (job.has_end_time()) {
    text += TimeLine("Ended", job.end_time(), now_unix_millis);
    if (job.has_start_time()) {
      text += Field(
          "Duration",
          term::FormatDuration(
              static_cast<double>(MillisOf(job.end_time()) - MillisOf(job.start_time())) / 1000));
    }
  }
  text += Field("Needs", fmt::format("{}", fmt::join(job.need_job_ids(), " ")));
  text += Field("After", fmt::format("{}", fmt::join(job.after_any_job_ids(), " ")));
  text += Field("After not ok", fmt::format("{}", fmt::join(job.after_not_ok_job_ids(), " ")));
  text += Field("Avoids", fmt::format("{}", fmt::join(job.avoided_worker_ids(), " ")));
  text += Progress(job, now_unix_millis);

  if (const Message* kind = KindMessage(job)) {
    std::vector<std::string> inputs;
    CollectInputs(*kind, "", &inputs);
    if (!inputs.empty()) text += fmt::format("\nInputs:\n  {}\n", fmt::join(inputs, "\n  "));
  }
  if (!job.outputs().empty()) {
    text += "\nOutputs:\n";
    term::Table table({{"ARTEFACT"}, {"SIZE", term::Align::kRight}, {"PATH"}});
    for (const std::string& output : job.outputs()) {
      const moe::v1::Artefact* known = nullptr;
      for (const moe::v1::Artefact& artefact : page.outputs) {
        if (fmt::format("{}:{}", artefact.name(), artefact.version()) == output) known = &artefact;
      }
      table.AddRow({output, known ? term::FormatBytes(known->size_bytes()) : std::string(),
                    known ? known->path() : std::string()});
    }
    text += Indented(table.Render({.color = layout.color}));
  }
  if (job.progress().has_last_step()) text += LastStep(job.progress().last_step(), layout);
  if (job.progress().has_last_validation()) {
    text += LastValidation(job.progress().last_validation(), layout);
  }
  for (const moe::v1::Artefact& artefact : page.outputs) {
    const std::string table = RenderReportTable(artefact.metadata(), layout);
    if (!table.empty()) text += "\nResult:\n" + Indented(table);
  }
  if (!page.events.events().empty()) {
    term::TableLayout narrower = layout;
    if (narrower.width > 2) narrower.width -= 2;
    text += "\nEvents:\n" + Indented(RenderEventTable(page.events, narrower));
  }
  return text;
}

}  // namespace moe::moectl
