// Our side of the checkpoint benchmark: the training state of one rank, on request.
//
//   checkpoint FOLDER ELEMENTS THREADS
//
// Obeys one word per line on standard input, answering each with one JSON object on a line:
//   save      a whole checkpoint by CheckpointWriter, as the trainer makes them: copied, written
//             {"blocked_s", "written_s", "total_s", "path"}
//   load      the newest one by LoadCheckpoint
//   memcpy    a copy of as many bytes
//   raw       as many bytes with O_DIRECT and fsync
//   raw_read  what `raw` wrote, with O_DIRECT
// The others answer {"seconds"}.
// tests/bench/checkpoint.py drives it beside the same state in PyTorch.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <iostream>
#include <stdexcept>
#include <string>

#include "common/file.h"
#include "common/json.h"
#include "common/status.h"
#include "storage/artefacts/direct_io.h"
#include "tests/published_shapes.h"
#include "worker/parallel/single_rank.h"
#include "worker/training/checkpoint_reader.h"
#include "worker/training/checkpoint_writer.h"

namespace moe {
namespace {

double Seconds(const std::function<void()>& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void CheckOk(const absl::Status& status) {
  if (!status.ok()) throw std::runtime_error(ToString(status));
}

// An embedding and a norm of `numel` elements, up to 63 fewer.
artefacts::ModelConfig OfSize(int64_t numel) {
  artefacts::ModelConfig config = published::SmolLm2();
  config.num_layers = 0;
  config.hidden_size = 64;
  config.vocab_size = numel / config.hidden_size - 1;
  return config;
}

class Bench {
 public:
  Bench(std::string folder, int64_t numel)
      : folder_(std::move(folder)),
        layout_(OfSize(numel)),
        numel_(layout_.arena_numel()),
        parameters_(at::randn({numel_}, at::kFloat)),
        exp_avg_(at::randn({numel_}, at::kFloat)),
        exp_avg_sq_(at::randn({numel_}, at::kFloat)),
        copy_(at::full({3 * numel_}, 0.0f, at::kFloat)),
        writer_({.folder = folder_, .name = "bench", .job_id = "j1", .attempt = 1}, OfSize(numel),
                layout_, communicator_,
                {.on_written = [this](const auto& written) { written_ = written; },
                 .on_failed = [](int64_t, const absl::Status&) {}}) {}

  Json Save() {
    double blocked = 0;
    training::Progress progress;
    progress.step = ++step_;
    const double total = Seconds([&] {
      blocked = Seconds([&] { writer_.Save(progress, parameters_, exp_avg_, exp_avg_sq_); });
      CheckOk(writer_.Wait());
    });
    if (step_ > 1) CheckOk(RemoveTree(writer_.Path(step_ - 1)));
    return {{"blocked_s", blocked},
            {"written_s", written_.write_seconds},
            {"total_s", total},
            {"path", written_.path}};
  }

  Json Load() {
    training::LoadedState loaded;
    const double seconds = Seconds([&] {
      auto read =
          training::LoadCheckpoint(written_.path, written_.manifest_crc32c, layout_, {{0, numel_}});
      CheckOk(read.status());
      loaded = *std::move(read);
    });
    if (!loaded.parameters.equal(parameters_)) throw std::runtime_error("read other numbers");
    return {{"seconds", seconds}};
  }

  Json Memcpy() {
    const double seconds = Seconds([&] {
      const at::Tensor* sources[] = {&parameters_, &exp_avg_, &exp_avg_sq_};
      for (int64_t i = 0; i < 3; ++i) {
        float* to = copy_.mutable_data_ptr<float>() + i * numel_;
        const float* from = sources[i]->const_data_ptr<float>();
        at::parallel_for(0, numel_, 1 << 20, [&](int64_t begin, int64_t end) {
          std::memcpy(to + begin, from + begin, static_cast<size_t>(end - begin) * sizeof(float));
        });
      }
    });
    return {{"seconds", seconds}};
  }

  Json Raw() {
    std::memset(block_.get(), 0x5a, kBlock);
    return {{"seconds", Seconds([&] {
               const FileDescriptor fd = OpenRaw(O_WRONLY | O_CREAT | O_TRUNC);
               MoveRaw([&] { return ::write(fd.get(), block_.get(), kBlock); });
               if (::fsync(fd.get()) != 0) throw std::runtime_error("cannot sync " + raw_path_);
             })}};
  }

  Json RawRead() {
    return {{"seconds", Seconds([&] {
               const FileDescriptor fd = OpenRaw(O_RDONLY);
               MoveRaw([&] { return ::read(fd.get(), block_.get(), kBlock); });
             })}};
  }

 private:
  static constexpr size_t kBlock = size_t{8} << 20;

  FileDescriptor OpenRaw(int flags) const {
    FileDescriptor fd(::open(raw_path_.c_str(), flags | O_DIRECT | O_CLOEXEC, 0644));
    if (!fd.valid()) throw std::runtime_error("cannot open with O_DIRECT: " + raw_path_);
    return fd;
  }
  // As many blocks as hold the state.
  void MoveRaw(const std::function<ssize_t()>& move) const {
    const size_t bytes = static_cast<size_t>(3 * numel_) * sizeof(float);
    for (size_t moved = 0; moved < bytes; moved += kBlock) {
      if (move() != static_cast<ssize_t>(kBlock)) {
        throw std::runtime_error("cannot read or write " + raw_path_);
      }
    }
  }

  const std::string folder_;
  const std::string raw_path_ = JoinPath(folder_, "raw");
  const artefacts::AlignedBuffer block_ = artefacts::AllocateAligned(kBlock);
  const model::ParameterLayout layout_;
  const int64_t numel_;
  const at::Tensor parameters_, exp_avg_, exp_avg_sq_;
  at::Tensor copy_;
  parallel::SingleRankCommunicator communicator_;
  training::WrittenCheckpoint written_;
  int64_t step_ = 0;
  training::CheckpointWriter writer_;
};

int Main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: checkpoint FOLDER ELEMENTS THREADS\n");
    return 2;
  }
  at::set_num_threads(std::stoi(argv[3]));
  Bench bench(argv[1], std::stoll(argv[2]));
  std::printf("{\"ready\": true}\n");
  std::fflush(stdout);
  for (std::string command; std::getline(std::cin, command);) {
    const Json answer = command == "save"       ? bench.Save()
                        : command == "load"     ? bench.Load()
                        : command == "raw"      ? bench.Raw()
                        : command == "raw_read" ? bench.RawRead()
                                                : bench.Memcpy();
    std::printf("%s\n", answer.dump().c_str());
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace moe

int main(int argc, char** argv) { return moe::Main(argc, argv); }
