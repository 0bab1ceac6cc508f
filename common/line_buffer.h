// Cuts a stream of bytes into lines, with a limit on their length.
#pragma once

#include <cstddef>
#include <string>

namespace moe {

// Not thread-safe.
class LineBuffer {
 public:
  explicit LineBuffer(size_t max_line_bytes) : max_line_bytes_(max_line_bytes) {}

  void Append(const char* data, size_t size) { buffer_.append(data, size); }

  // Takes the next complete line, without its line break. False where there is none yet.
  bool Next(std::string* line) {
    const size_t end = buffer_.find('\n', searched_);
    if (end == std::string::npos) {
      buffer_.erase(0, begin_);
      searched_ = buffer_.size();
      begin_ = 0;
      return false;
    }
    line->assign(buffer_, begin_, end - begin_);
    begin_ = searched_ = end + 1;
    return true;
  }

  // True once the line being received is longer than the limit. Ask when Next() says false.
  bool overlong() const { return buffer_.size() - begin_ > max_line_bytes_; }

 private:
  size_t max_line_bytes_;
  std::string buffer_;
  size_t begin_ = 0;     // of the line being received
  size_t searched_ = 0;  // no line break before this
};

}  // namespace moe
