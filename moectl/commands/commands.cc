#include "moectl/commands/commands.h"

#include <fmt/format.h>

#include <CLI/Validators.hpp>
#include <cstdint>
#include <random>

#include "common/status.h"

namespace moe::moectl {

void AddOutputOption(CLI::App& command, std::string* value, std::vector<std::string> forms) {
  *value = forms.front();
  command.add_option("-o,--output", *value, "Form of the output; default " + forms.front())
      ->check(CLI::IsMember(forms))
      ->type_name("FORM");
}

void AddEtagOption(CLI::App& command, std::string* etag) {
  command.add_option("--if-etag", *etag, "Only if the job is still as it was when this was read")
      ->type_name("ETAG");
}

absl::Status CheckEtagOfOne(const std::string& etag, size_t jobs) {
  if (etag.empty() || jobs == 1) return absl::OkStatus();
  return InvalidArgument("--if-etag {} is of one job, and these are {}; name one", etag, jobs);
}

std::string MakeRequestId() {
  std::random_device random;
  auto word = [&random] { return static_cast<uint32_t>(random()); };
  const uint32_t a = word(), b = word(), c = word(), d = word();
  return fmt::format("{:08x}-{:04x}-4{:03x}-{:04x}-{:04x}{:08x}", a, b >> 16, b & 0xfff,
                     0x8000 | (c >> 16 & 0x3fff), c & 0xffff, d);
}

std::string WithoutNoun(const std::string& name) {
  const size_t slash = name.find('/');
  return slash == std::string::npos ? name : name.substr(slash + 1);
}

std::vector<std::string> WithoutNouns(const std::vector<std::string>& names) {
  std::vector<std::string> plain;
  for (const std::string& name : names) plain.push_back(WithoutNoun(name));
  return plain;
}

}  // namespace moe::moectl
