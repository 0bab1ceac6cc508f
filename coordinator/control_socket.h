// How a command of moe-coordinator reaches the coordinator that runs on the same data directory: a
// Unix socket in it, for the coordinator's own user and root. One line of JSON each way, then the
// connection ends.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/file.h"
#include "common/json.h"

namespace moe::coordinator {

std::string ControlSocketPath(const std::string& data_dir);

class ControlSocket {
 public:
  // What to answer; an error is sent as it is. Called on the socket's own thread, one request after
  // the other, and may take its time.
  using Handler = std::function<absl::StatusOr<Json>(const Json& request)>;

  static absl::StatusOr<std::unique_ptr<ControlSocket>> Listen(const std::string& path,
                                                               Handler handler);
  // Waits for the request that is being handled.
  ~ControlSocket();

 private:
  ControlSocket(std::string path, FileDescriptor listener, FileDescriptor wake, Handler handler);

  void Serve();
  void Answer(const FileDescriptor& connection) const;

  const std::string path_;
  const FileDescriptor listener_;
  const FileDescriptor wake_;  // readable once the thread is to end
  const Handler handler_;
  std::thread thread_;
};

// Asks the coordinator and waits for its answer, however long that takes. UNAVAILABLE where nobody
// listens, or the coordinator ends meanwhile; else its own errors.
absl::StatusOr<Json> AskCoordinator(const std::string& data_dir, const Json& request);

}  // namespace moe::coordinator
