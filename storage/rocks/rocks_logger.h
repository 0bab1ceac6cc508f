// What RocksDB has to say, in the program's own log.
#pragma once

#include <memory>

namespace rocksdb {
class Logger;
}  // namespace rocksdb

namespace moe::storage {

// Warnings and errors; at spdlog's level debug everything.
std::shared_ptr<rocksdb::Logger> MakeRocksLogger();

}  // namespace moe::storage
