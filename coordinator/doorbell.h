#pragma once

#include <utility>

namespace moe::coordinator {

// Rung by whatever may let a queued job start; the scheduling pass that it asks for is part of the
// same turn. Belongs to the loop's thread (coordinator/turn.h).
class Doorbell {
 public:
  void Ring() { rung_ = true; }
  bool IsRung() const { return rung_; }
  bool TakeRing() { return std::exchange(rung_, false); }

 private:
  bool rung_ = true;  // after a start there may be jobs
};

}  // namespace moe::coordinator
