#include "storage/rocks/rocks_logger.h"

#include <rocksdb/env.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>
#include <string>

namespace moe::storage {
namespace {

using rocksdb::InfoLogLevel;

// A line that is longer is cut.
constexpr size_t kMaxLineBytes = 2000;

class RocksLogger final : public rocksdb::Logger {
 public:
  explicit RocksLogger(InfoLogLevel level) : rocksdb::Logger(level) {}

  void Logv(const char* format, va_list arguments) override {
    Logv(InfoLogLevel::INFO_LEVEL, format, arguments);
  }
  void Logv(InfoLogLevel level, const char* format, va_list arguments) override {
    if (level < GetInfoLogLevel()) return;
    std::array<char, kMaxLineBytes> buffer;
    const int wanted = std::vsnprintf(buffer.data(), buffer.size(), format, arguments);
    const size_t size = std::min(buffer.size() - 1, static_cast<size_t>(std::max(0, wanted)));
    std::string line(buffer.data(), size);
    line.erase(line.find_last_not_of(" \n") + 1);
    spdlog::log(LevelOf(level), "rocksdb: {}", line);
  }
  // Headers are the options, at every start.
  void LogHeader(const char* format, va_list arguments) override {
    Logv(InfoLogLevel::DEBUG_LEVEL, format, arguments);
  }

 private:
  static spdlog::level::level_enum LevelOf(InfoLogLevel level) {
    if (level >= InfoLogLevel::ERROR_LEVEL) return spdlog::level::err;
    return level == InfoLogLevel::WARN_LEVEL ? spdlog::level::warn : spdlog::level::debug;
  }
};

}  // namespace

std::shared_ptr<rocksdb::Logger> MakeRocksLogger() {
  return std::make_shared<RocksLogger>(spdlog::should_log(spdlog::level::debug)
                                           ? InfoLogLevel::DEBUG_LEVEL
                                           : InfoLogLevel::WARN_LEVEL);
}

}  // namespace moe::storage
