#include "worker/kernels/tile_gemm.h"

#include <ATen/native/CPUBlas.h>

#include <algorithm>
#include <stdexcept>
#include <type_traits>

#include "worker/kernels/parallel.h"
#include "worker/kernels/tile_layout.h"

namespace moe::kernels {
namespace {

using c10::BFloat16;

constexpr int64_t kPanelCols = 64;
// Depth of a tile, in numbers.
constexpr int64_t kTileDepth = 32;
// A block of the left-hand side and a panel this deep fit a core's second cache many times.
constexpr int64_t kBlockRows = 128, kBlockDepth = 1024;
// So much of the right-hand side is gone through for each block of the left-hand side.
constexpr int64_t kGroupBytes = int64_t{1} << 20;

int64_t RoundUp(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// Tiles are a state of the thread, which other users of oneDNN set for themselves.
struct TilesInUse {
  TilesInUse() = default;
  TilesInUse(const TilesInUse&) = delete;
  TilesInUse& operator=(const TilesInUse&) = delete;
  ~TilesInUse() { at::native::cpublas::brgemm_release(/*is_vnni=*/true); }
};

// Rows of `a` as tiles are loaded from them: where they are, or a copy whose rows are those of a's
// transpose, or padded with zeros to whole tiles.
struct LeftBlock {
  const BFloat16* data;
  int64_t stride;
};

LeftBlock PrepareLeft(const Matrix<const BFloat16>& a, int64_t row, int64_t rows, int64_t depth0,
                      int64_t depth, int64_t padded_depth, Buffer<BFloat16>& room) {
  // Not a multiple of 4 KiB: rows would fall onto each other in the cache.
  const int64_t stride = padded_depth + kTileDepth;
  if (a.is_transposed) {
    BFloat16* copy = room.Reserve(rows * stride);
    TransposeRows(a.data + depth0 * a.stride + row, a.stride, depth, rows, padded_depth, copy,
                  stride);
    return {copy, stride};
  }
  const BFloat16* from = a.data + row * a.stride + depth0;
  if (depth == padded_depth) return {from, a.stride};
  BFloat16* copy = room.Reserve(rows * stride);
  for (int64_t r = 0; r < rows; ++r) {
    std::copy_n(from + r * a.stride, depth, copy + r * stride);
    std::fill(copy + r * stride + depth, copy + r * stride + padded_depth, BFloat16(0.0f));
  }
  return {copy, stride};
}

template <typename C>
void Multiply(const Matrix<const BFloat16>& a, const TileMatrix& b, Output output,
              const Matrix<C>& c) {
  if (a.rows != c.rows || a.cols > b.rows() || c.cols > b.cols() || c.is_transposed) {
    throw std::invalid_argument("TileGemm: shapes do not fit");
  }
  if (c.rows == 0 || c.cols == 0) return;
  constexpr bool kRounds = std::is_same_v<C, BFloat16>;
  const int64_t padded = RoundUp(a.cols, kTileDepth);
  // What is rounded has to be summed to its end first.
  const int64_t pass_depth = kRounds ? padded : kBlockDepth;
  const int64_t panels = (c.cols + kPanelCols - 1) / kPanelCols;
  const int64_t group = std::max<int64_t>(
      1, kGroupBytes / (std::min(pass_depth, padded) * kPanelCols * int64_t{sizeof(BFloat16)}));
  const int64_t blocks = (a.rows + kBlockRows - 1) / kBlockRows;

  ParallelFor(blocks, 1, [&](int64_t first_block, int64_t last_block) {
    thread_local Buffer<BFloat16> left_room;
    thread_local Buffer<float> sums_room;
    const TilesInUse tiles;
    for (int64_t depth0 = 0; depth0 < padded; depth0 += pass_depth) {
      const int64_t padded_depth = std::min(pass_depth, padded - depth0);
      const int64_t depth = std::min(padded_depth, a.cols - depth0);
      for (int64_t panel0 = 0; panel0 < panels; panel0 += group) {
        for (int64_t block = first_block; block < last_block; ++block) {
          const int64_t row = block * kBlockRows, rows = std::min(kBlockRows, a.rows - row);
          const LeftBlock left = PrepareLeft(a, row, rows, depth0, depth, padded_depth, left_room);
          for (int64_t panel = panel0; panel < std::min(panel0 + group, panels); ++panel) {
            const int64_t col = panel * kPanelCols, cols = std::min(kPanelCols, c.cols - col);
            C* place = c.data + row * c.stride + col;
            float* sums = nullptr;
            int64_t sums_stride = kPanelCols;
            if constexpr (kRounds) {
              sums = sums_room.Reserve(kBlockRows * kPanelCols);
            } else {
              sums = place;
              sums_stride = c.stride;
            }
            bool adds = output == Output::kAdd || (!kRounds && depth0 > 0);
            for (int64_t k = 0; k < padded_depth; k += kBlockDepth, adds = true) {
              at::native::cpublas::brgemm(rows, cols, std::min(kBlockDepth, padded_depth - k),
                                          left.stride, kPanelCols, sums_stride, adds, left.data + k,
                                          b.Panel(panel, depth0 + k), sums,
                                          /*is_vnni=*/true);
            }
            if constexpr (kRounds) RoundRows(sums, kPanelCols, rows, cols, place, c.stride);
          }
        }
      }
    }
  });
}

}  // namespace

bool CpuMultipliesBf16() {
#if defined(__x86_64__)
  static const bool has = [] {
    __builtin_cpu_init();
    return static_cast<bool>(__builtin_cpu_supports("avx512bf16"));
  }();
  return has;
#else
  return false;
#endif
}

bool CpuPrefersBf16() {
#if defined(__x86_64__)
  static const bool prefers =
      CpuMultipliesBf16() && (at::native::cpublas::could_pack(at::kBFloat16) ||  // has tiles
                              __builtin_cpu_is("amd"));
  return prefers;
#else
  return false;
#endif
}

void TileMatrix::Pack(const Matrix<const BFloat16>& matrix) {
  rows_ = matrix.rows;
  cols_ = matrix.cols;
  padded_rows_ = RoundUp(rows_, kTileDepth);
  const int64_t panels = (cols_ + kPanelCols - 1) / kPanelCols;
  BFloat16* to = panels_.Reserve(panels * padded_rows_ * kPanelCols);
  ParallelFor(panels, 1, [&, to](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t col = i * kPanelCols, cols = std::min(kPanelCols, cols_ - col);
      BFloat16* panel = to + i * padded_rows_ * kPanelCols;
      if (matrix.is_transposed) {
        PackPairsTransposed(matrix.data + col * matrix.stride, matrix.stride, rows_, cols,
                            padded_rows_ / 2, kPanelCols, panel);
      } else {
        PackPairs(matrix.data + col, matrix.stride, rows_, cols, padded_rows_ / 2, kPanelCols,
                  panel);
      }
    }
  });
}

const BFloat16* TileMatrix::Panel(int64_t i, int64_t row) const {
  return panels_.data() + (i * padded_rows_ + row) * kPanelCols;
}

void TileGemm(const Matrix<const BFloat16>& a, const TileMatrix& b, Output output,
              const Matrix<float>& c) {
  Multiply(a, b, output, c);
}

void TileGemm(const Matrix<const BFloat16>& a, const TileMatrix& b, const Matrix<BFloat16>& c) {
  Multiply(a, b, Output::kOverwrite, c);
}

}  // namespace moe::kernels
