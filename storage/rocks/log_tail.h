// Tells a write that the power interrupted from damage, in a write-ahead log that RocksDB refuses.
#pragma once

#include <string>

namespace moe::storage {

// Whether nothing that is readable begins after the first place that is not. The last write of a
// log may be anything when the power goes before its sync has returned: sectors reach the disk in
// any order, so its end may be there and its beginning not. As every write is synced before the
// next, and acknowledged after its sync, what is damaged then was never acknowledged. A record that
// begins behind the damage was written after it: that damage came later, and to acknowledged data.
bool EndsInATornWrite(const std::string& log);

}  // namespace moe::storage
