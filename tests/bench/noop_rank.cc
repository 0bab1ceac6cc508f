// A rank that does nothing but what every job must: it is forked and executed, reports, hands in an
// output with a durable manifest, waits for it to be catalogued, and ends. Stands in for
// moe-prepare where the control plane is measured or broken.
//
// Speaks the run folder (docs/formats/run-folder.md) by itself and is linked statically, with
// nothing of the project but the checksum: what starting it costs is what the kernel takes to start
// a program, and what is measured is the service.
//
// Its first act is a line "j17.2 UNIX_NANOSECONDS" at the end of the file `starts` beside the name
// that it was called by, in one write: a record, kept outside the service, of which attempts were
// started and when.
#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "common/crc32c.h"

namespace moe {
namespace {

using Json = nlohmann::json;

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "noop_rank: %s: %s\n", what.c_str(), std::strerror(errno));
  ::_exit(1);
}

int Check(int result, const std::string& what) {
  if (result < 0) Fail(what);
  return result;
}

template <typename Unit>
int64_t UnixTime() {
  return std::chrono::duration_cast<Unit>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

int64_t MonotonicMillis() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

int Open(const std::string& path, int flags) {
  return Check(::open(path.c_str(), flags | O_CLOEXEC, 0644), "cannot open " + path);
}

// In one write, so that whoever reads the file meanwhile sees all of it or nothing.
void Write(int fd, const std::string& text, const std::string& path) {
  if (::write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    Fail("cannot write " + path);
  }
}

std::string Read(const std::string& path) {
  const int fd = Open(path, O_RDONLY);
  std::string text;
  char buffer[1 << 14];
  ssize_t n = 0;
  while ((n = ::read(fd, buffer, sizeof buffer)) > 0) text.append(buffer, static_cast<size_t>(n));
  if (n < 0) Fail("cannot read " + path);
  ::close(fd);
  return text;
}

void RecordStart(const std::string& program, const std::string& run_dir) {
  const int64_t now = UnixTime<std::chrono::nanoseconds>();
  const std::string path = program.substr(0, program.rfind('/') + 1) + "starts";
  const int fd = Open(path, O_WRONLY | O_CREAT | O_APPEND);
  Write(fd, run_dir.substr(run_dir.rfind('/') + 1) + " " + std::to_string(now) + "\n", path);
  ::close(fd);
}

// The rank's reports, from the first on.
class Reports {
 public:
  explicit Reports(std::string path)
      : path_(std::move(path)), fd_(Open(path_, O_WRONLY | O_CREAT | O_APPEND)) {
    Check(::flock(fd_, LOCK_EX | LOCK_NB), "another process holds " + path_);
    struct stat info;
    Check(::fstat(fd_, &info), "cannot stat " + path_);
    if (info.st_size > 0) {
      errno = EEXIST;
      Fail(path_ + " is another rank's");
    }
  }

  void Add(const char* event, Json body) {
    const Json report = {{"seq", ++last_seq_},
                         {"unix_millis", UnixTime<std::chrono::milliseconds>()},
                         {event, std::move(body)}};
    Write(fd_, report.dump() + "\n", path_);
  }
  int last_seq() const { return last_seq_; }

 private:
  const std::string path_;
  const int fd_;
  int last_seq_ = 0;
};

// A socket that listens by the time it has its name.
int Listen(const std::string& folder) {
  Check(::chdir(folder.c_str()), "cannot enter " + folder);  // sockets have short paths only
  const int fd = Check(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "cannot make a socket");
  const sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "socket.new"};
  Check(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), "cannot bind");
  Check(::listen(fd, 4), "cannot listen");
  Check(::rename("socket.new", "socket"), "cannot rename the socket");
  return fd;
}

// The worker, or the one that comes after it: lines both ways, for as long as the lease is good.
class Worker {
 public:
  Worker(int listener, int rank, int64_t lease_until_ms, Reports* reports)
      : listener_(listener), rank_(rank), lease_until_ms_(lease_until_ms), reports_(reports) {}

  // There are new reports. Where nobody hears it, who comes next is told.
  void Tell() { Say({{"type", "reported"}, {"seq", reports_->last_seq()}}); }

  // The next line that is no lease.
  Json Hear() {
    while (true) {
      size_t end = 0;
      while ((end = heard_.find('\n')) == std::string::npos) Receive();
      Json line = Json::parse(heard_.substr(0, end));
      heard_.erase(0, end + 1);
      if (line.at("type") != "lease") return line;
      lease_until_ms_ = std::max<int64_t>(lease_until_ms_, line.at("until_monotonic_ms"));
    }
  }

  void Receive() {
    if (fd_ < 0) return Accept();
    Await(fd_);
    char buffer[1 << 12];
    const ssize_t n = ::recv(fd_, buffer, sizeof buffer, 0);
    if (n > 0) {
      heard_.append(buffer, static_cast<size_t>(n));
    } else {
      ::close(fd_);
      fd_ = -1;
      heard_.clear();
    }
  }

 private:
  void Accept() {
    Await(listener_);
    fd_ = Check(::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC), "cannot accept");
    Say({{"type", "hello"}, {"rank", rank_}, {"pid", ::getpid()}});
    Tell();
  }

  void Say(const Json& line) {
    const std::string text = line.dump() + "\n";
    ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);  // a worker that is gone is noticed above
  }

  // Until there is something to be had from `fd`.
  void Await(int fd) {
    pollfd waited = {.fd = fd, .events = POLLIN};
    while (true) {
      const int64_t left_ms = lease_until_ms_ - MonotonicMillis();
      if (left_ms <= 0) {
        reports_->Add("stopped", {{"cause", "CAUSE_LEASE_EXPIRED"}});
        ::_exit(0);
      }
      if (::poll(&waited, 1, static_cast<int>(std::min<int64_t>(left_ms, 60'000))) > 0) return;
    }
  }

  const int listener_;
  const int rank_;
  int64_t lease_until_ms_;
  Reports* const reports_;
  int fd_ = -1;
  std::string heard_;
};

// Makes the artefact, durably, and returns what to report of it.
Json HandIn(const Json& run) {
  const Json& output = run.at("output");
  const std::string dir = output.at("dir");
  std::filesystem::create_directories(dir);
  const Json manifest = {{"format", "moe-artefact"},   {"version", 1},
                         {"kind", output.at("kind")},  {"name", output.at("name")},
                         {"job_id", run.at("job_id")}, {"attempt", run.at("attempt")},
                         {"inputs", Json::array()},    {"metadata", Json::object()},
                         {"files", Json::array()}};
  const std::string text = manifest.dump(2) + "\n";
  const std::string path = dir + "/manifest.json", temporary = path + ".new";
  const int fd = Open(temporary, O_WRONLY | O_CREAT | O_EXCL);
  Write(fd, text, temporary);
  Check(::fsync(fd), "cannot sync " + temporary);
  Check(::rename(temporary.c_str(), path.c_str()), "cannot rename " + temporary);
  Check(::fsync(Open(dir, O_RDONLY | O_DIRECTORY)), "cannot sync " + dir);
  return {{"name", output.at("name")},
          {"kind", "ARTEFACT_KIND_DATASET"},
          {"path", dir},
          {"manifest_crc32c", Crc32c(text.data(), text.size())}};
}

void Run(const std::string& program, const std::string& run_dir, int rank) {
  RecordStart(program, run_dir);
  const Json run = Json::parse(Read(run_dir + "/run.json"));
  const std::string folder = run_dir + "/rank-" + std::to_string(rank);
  Reports reports(folder + "/reports.jsonl");
  Worker worker(Listen(folder), rank, std::stoll(Read(folder + "/lease")), &reports);
  reports.Add("started", {{"pid", ::getpid()}, {"device", "none"}});
  worker.Receive();
  const Json artefact = HandIn(run);
  reports.Add("artefact", artefact);
  worker.Tell();
  while (true) {
    const Json line = worker.Hear();
    if (line.at("type") == "stop") {
      const bool drain = line.at("reason") == "drain";
      return reports.Add("stopped", {{"cause", drain ? "CAUSE_DRAINED" : "CAUSE_CANCELLED"}});
    }
    if (line.at("type") != "artefact" || line.at("path") != artefact.at("path")) continue;
    if (line.at("committed") == true) return reports.Add("finished", {{"summary", "did nothing"}});
    return reports.Add("failed", {{"cause", "CAUSE_STORAGE"}, {"error", line.at("error")}});
  }
}

}  // namespace
}  // namespace moe

// Called as moe-worker calls a rank: --run-dir DIR --rank N --threads N.
int main(int argc, char** argv) {
  if (argc < 5) return 2;
  moe::Run(argv[0], argv[2], std::atoi(argv[4]));
  return 0;
}
