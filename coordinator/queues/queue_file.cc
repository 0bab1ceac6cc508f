#include "coordinator/queues/queue_file.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "common/file.h"
#include "common/status.h"
#include "coordinator/spec/checker.h"

namespace moe::coordinator {
namespace {

constexpr int64_t kMaxSlots = 1'000'000'000;
constexpr size_t kMaxQueues = 1000;
constexpr int kMaxDepth = 8;
constexpr double kMaxWeight = 1e6;

// Reads the file into rules; the first problem ends it.
class Reader {
 public:
  explicit Reader(std::string file) : file_(std::move(file)) {}

  absl::StatusOr<QueueTree> Read(const YAML::Node& root) {
    MOE_RETURN_IF_ERROR(
        CheckKeys(root, "the queue file", {"default", "half_life_hours", "queues"}));
    double half_life_hours = 7 * 24;
    if (const YAML::Node node = root["half_life_hours"]) {
      MOE_ASSIGN_OR_RETURN(half_life_hours, Number(node, "half_life_hours", 0.01, 1e6));
    }
    MOE_RETURN_IF_ERROR(ReadQueues(root["queues"], root, "", -1, 1));
    MOE_ASSIGN_OR_RETURN(const int32_t default_queue, Default(root));
    return QueueTree(std::move(rules_), default_queue, half_life_hours * 3600);
  }

 private:
  template <typename... Args>
  absl::Status Problem(const YAML::Node& at, fmt::format_string<Args...> format, Args&&... args) {
    return InvalidArgument("{}:{}: {}", file_, at.Mark().line + 1,
                           fmt::format(format, std::forward<Args>(args)...));
  }

  absl::Status CheckKeys(const YAML::Node& node, const std::string& what,
                         const std::vector<std::string>& known) {
    if (!node.IsMap()) {
      return Problem(node, "{} is a mapping with the keys {}", what, fmt::join(known, ", "));
    }
    std::set<std::string> seen;
    for (const auto& entry : node) {
      const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "";
      if (std::find(known.begin(), known.end(), key) == known.end()) {
        return Problem(entry.first, "{} has no key '{}'; use {}{}", what, key,
                       fmt::join(known, ", "), Suggestion(key, known));
      }
      if (!seen.insert(key).second) {
        return Problem(entry.first, "{}: key '{}' is given twice; remove one", what, key);
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<int64_t> Slots(const YAML::Node& node, const std::string& what) {
    const std::string text = node.IsScalar() ? node.Scalar() : "";
    int64_t value = 0;
    const char* end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, value);
    if (text.empty() || error != std::errc() || rest != end || value < 0 || value > kMaxSlots) {
      return Problem(node, "{}={} is not a number of slots; use 0 to {}", what,
                     text.empty() ? "(nothing)" : text, kMaxSlots);
    }
    return value;
  }

  absl::StatusOr<double> Number(const YAML::Node& node, const std::string& what, double low,
                                double high) {
    const std::string text = node.IsScalar() ? node.Scalar() : "";
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (text.empty() || *end != '\0' || !(value >= low && value <= high)) {
      return Problem(node, "{}={} is out of range; use {} to {}", what,
                     text.empty() ? "(nothing)" : text, low, high);
    }
    return value;
  }

  absl::Status ReadQueues(const YAML::Node& node, const YAML::Node& owner, const std::string& above,
                          int32_t parent, int depth) {
    if (!node.IsDefined() || !node.IsMap() || node.size() == 0) {
      return Problem(owner, "queues: expected a mapping of at least one name to its queue");
    }
    if (depth > kMaxDepth) {
      return Problem(node, "queues are nested {} deep; the limit is {}", depth, kMaxDepth);
    }
    int64_t quotas = 0;
    for (const auto& entry : node) {
      const std::string own = entry.first.IsScalar() ? entry.first.Scalar() : "";
      if (!IsName(own)) {
        return Problem(entry.first,
                       "queue '{}' has no name that can be used; use 1 to {} lower-case letters, "
                       "digits and dashes",
                       own, kMaxNameLength);
      }
      const std::string name = above.empty() ? own : above + "/" + own;
      if (!names_.insert(name).second) {
        return Problem(entry.first, "queue '{}' is given twice; rename one", name);
      }
      if (rules_.size() == kMaxQueues) {
        return Problem(entry.first, "there are more than {} queues; merge some", kMaxQueues);
      }
      const auto index = static_cast<int32_t>(rules_.size());
      MOE_RETURN_IF_ERROR(ReadQueue(entry.second, entry.first, name, parent));
      quotas += rules_[static_cast<size_t>(index)].quota;
      if (parent >= 0 && quotas > rules_[static_cast<size_t>(parent)].quota) {
        return Problem(entry.first,
                       "queue '{}': the quotas of the queues in '{}' add up to {}, above its own "
                       "quota {}; raise that, or lower theirs",
                       name, above, quotas, rules_[static_cast<size_t>(parent)].quota);
      }
      if (const YAML::Node below = entry.second["queues"]) {
        MOE_RETURN_IF_ERROR(ReadQueues(below, entry.first, name, index, depth + 1));
      }
    }
    return absl::OkStatus();
  }

  absl::Status ReadQueue(const YAML::Node& node, const YAML::Node& key, const std::string& name,
                         int32_t parent) {
    const std::string what = fmt::format("queue '{}'", name);
    if (!node.IsMap()) return Problem(key, "{} is a mapping; give its quota", what);
    MOE_RETURN_IF_ERROR(CheckKeys(node, what, {"quota", "limit", "lends", "weight", "queues"}));
    QueueRules rules{.name = name, .parent = parent};
    const YAML::Node quota = node["quota"];
    if (!quota) return Problem(key, "{} has no quota; give the slots that it is entitled to", what);
    MOE_ASSIGN_OR_RETURN(rules.quota, Slots(quota, what + ": quota"));
    if (const YAML::Node limit = node["limit"]) {
      MOE_ASSIGN_OR_RETURN(rules.limit, Slots(limit, what + ": limit"));
      if (rules.limit < rules.quota || rules.limit == 0) {
        return Problem(limit, "{}: limit={} is below its quota {}; use {} or more, or leave it out",
                       what, rules.limit, rules.quota, std::max<int64_t>(1, rules.quota));
      }
      if (parent >= 0 && rules.limit > rules_[static_cast<size_t>(parent)].limit) {
        const QueueRules& above = rules_[static_cast<size_t>(parent)];
        return Problem(limit,
                       "{}: limit={} is above the limit {} of '{}', which holds for it too; "
                       "use {} or less",
                       what, rules.limit, above.limit, above.name, above.limit);
      }
    }
    if (const YAML::Node lends = node["lends"]) {
      MOE_ASSIGN_OR_RETURN(rules.lends, Slots(lends, what + ": lends"));
      if (rules.lends > rules.quota) {
        return Problem(lends, "{}: lends={} is above its quota {}; it can lend no more than that",
                       what, rules.lends, rules.quota);
      }
    }
    if (const YAML::Node weight = node["weight"]) {
      MOE_ASSIGN_OR_RETURN(rules.weight, Number(weight, what + ": weight", 1e-6, kMaxWeight));
    }
    rules_.push_back(std::move(rules));
    return absl::OkStatus();
  }

  absl::StatusOr<int32_t> Default(const YAML::Node& root) {
    std::set<int32_t> parents;
    for (const QueueRules& rules : rules_) parents.insert(rules.parent);
    std::vector<std::string> names;
    for (size_t i = 0; i < rules_.size(); ++i) {
      if (parents.contains(static_cast<int32_t>(i))) continue;
      names.push_back(rules_[i].name);
    }
    const YAML::Node node = root["default"];
    if (!node) {
      return Problem(root,
                     "key 'default' is missing: name the queue of jobs that name none, one "
                     "of {}",
                     fmt::join(names, ", "));
    }
    const std::string name = node.IsScalar() ? node.Scalar() : "";
    for (size_t i = 0; i < rules_.size(); ++i) {
      if (rules_[i].name != name) continue;
      if (!parents.contains(static_cast<int32_t>(i))) return static_cast<int32_t>(i);
    }
    return Problem(node, "default='{}' is not a queue that takes jobs; use one of {}{}", name,
                   fmt::join(names, ", "), Suggestion(name, names));
  }

  const std::string file_;
  std::vector<QueueRules> rules_;
  std::set<std::string> names_;
};

}  // namespace

absl::StatusOr<QueueTree> ParseQueueFile(const std::string& text, const std::string& file) {
  try {
    return Reader(file).Read(YAML::Load(text));
  } catch (const YAML::Exception& error) {
    // yaml-cpp reports what it cannot parse by exceptions only.
    return InvalidArgument("{}:{}: {}", file, error.mark.line + 1, error.msg);
  }
}

absl::StatusOr<QueueTree> LoadQueueFile(const std::string& path) {
  MOE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  return ParseQueueFile(text, path);
}

}  // namespace moe::coordinator
