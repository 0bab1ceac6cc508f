#include "worker/kernels/gemm.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>

#include <array>
#include <stdexcept>
#include <string>

#include "worker/kernels/buffer.h"
#include "worker/kernels/convert.h"
#include "worker/kernels/tile_gemm.h"

// The Fortran BLAS interface, which libtorch_cpu exports.
extern "C" void sgemm_(const char* trans_a, const char* trans_b, const int* m, const int* n,
                       const int* k, const float* alpha, const float* a, const int* lda,
                       const float* b, const int* ldb, const float* beta, float* c, const int* ldc);

namespace moe::kernels {
namespace {

template <typename T, typename C>
void CheckShapes(const Matrix<const T>& a, const Matrix<const T>& b, const Matrix<C>& c) {
  if (a.cols != b.rows || a.rows != c.rows || b.cols != c.cols || c.is_transposed) {
    auto text = [](int64_t rows, int64_t cols) {
      return "[" + std::to_string(rows) + ", " + std::to_string(cols) + "]";
    };
    throw std::invalid_argument("Gemm: shapes do not fit: " + text(a.rows, a.cols) + " x " +
                                text(b.rows, b.cols) + " -> " + text(c.rows, c.cols));
  }
}

template <typename T>
at::Tensor AsTensor(const Matrix<T>& matrix, at::ScalarType type) {
  const std::array<int64_t, 2> sizes = {matrix.rows, matrix.cols};
  const std::array<int64_t, 2> strides = matrix.is_transposed
                                             ? std::array<int64_t, 2>{1, matrix.stride}
                                             : std::array<int64_t, 2>{matrix.stride, 1};
  return at::from_blob(const_cast<std::remove_const_t<T>*>(matrix.data), sizes, strides,
                       at::TensorOptions().dtype(type));
}

// A dense fp32 copy, of the same orientation, in `storage`.
Matrix<const float> Widen(const Matrix<const c10::BFloat16>& matrix, Buffer<float>& storage) {
  const int64_t stored_rows = matrix.is_transposed ? matrix.cols : matrix.rows;
  const int64_t stored_cols = matrix.is_transposed ? matrix.rows : matrix.cols;
  float* wide = storage.Reserve(stored_rows * stored_cols);
  ConvertRows(matrix.data, matrix.stride, stored_rows, stored_cols, wide, stored_cols);
  const Matrix<const float> stored(wide, stored_rows, stored_cols);
  return matrix.is_transposed ? stored.Transposed() : stored;
}

struct Scratch {
  Buffer<float> a, b, c;
  Buffer<c10::BFloat16> c_bf16;
  TileMatrix tiles;
};

Scratch& ThreadScratch() {
  thread_local Scratch scratch;
  return scratch;
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

void Gemm(Matrix<const float> a, Matrix<const float> b, Output output, Matrix<float> c,
          float alpha) {
  CheckShapes(a, b, c);
  if (c.rows == 0 || c.cols == 0) return;
  // BLAS stores by columns: the row-major c is the transpose of the product it computes.
  const int m = static_cast<int>(c.cols), n = static_cast<int>(c.rows),
            k = static_cast<int>(a.cols), lda = static_cast<int>(b.stride),
            ldb = static_cast<int>(a.stride), ldc = static_cast<int>(c.stride);
  const float beta = output == Output::kAdd ? 1.0f : 0.0f;
  sgemm_(b.is_transposed ? "T" : "N", a.is_transposed ? "T" : "N", &m, &n, &k, &alpha, b.data, &lda,
         a.data, &ldb, &beta, c.data, &ldc);
}

void Gemm(Matrix<const c10::BFloat16> a, Matrix<const c10::BFloat16> b, Output output,
          Matrix<float> c) {
  CheckShapes(a, b, c);
  if (c.rows == 0 || c.cols == 0) return;
  Scratch& scratch = ThreadScratch();
  if (CpuHasTiles()) {
    scratch.tiles.Pack(b);
    TileGemm(a, scratch.tiles, output, c);
    return;
  }
  if (!CpuMultipliesBf16()) {
    Gemm(Widen(a, scratch.a), Widen(b, scratch.b), output, c);
    return;
  }
  c10::BFloat16* product = scratch.c_bf16.Reserve(c.rows * c.cols);
  Gemm(a, b, Output::kOverwrite, Matrix<c10::BFloat16>(product, c.rows, c.cols));
  if (output == Output::kAdd) {
    AddRows(product, c.cols, c.rows, c.cols, c.data, c.stride);
  } else {
    ConvertRows(product, c.cols, c.rows, c.cols, c.data, c.stride);
  }
}

void Gemm(Matrix<const c10::BFloat16> a, Matrix<const c10::BFloat16> b, Output output,
          Matrix<c10::BFloat16> c) {
  CheckShapes(a, b, c);
  if (output == Output::kAdd) throw std::invalid_argument("Gemm: adds to fp32 results only");
  if (c.rows == 0 || c.cols == 0) return;
  if (CpuHasTiles()) {
    TileMatrix& tiles = ThreadScratch().tiles;
    tiles.Pack(b);
    TileGemm(a, tiles, c);
    return;
  }
  if (CpuMultipliesBf16()) {
    at::Tensor result = AsTensor(c, at::kBFloat16);
    at::mm_out(result, AsTensor(a, at::kBFloat16), AsTensor(b, at::kBFloat16));
    return;
  }
  Scratch& scratch = ThreadScratch();
  float* product = scratch.c.Reserve(c.rows * c.cols);
  Gemm(Widen(a, scratch.a), Widen(b, scratch.b), Output::kOverwrite,
       Matrix<float>(product, c.rows, c.cols));
  ConvertRows(product, c.cols, c.rows, c.cols, c.data, c.stride);
}

}  // namespace moe::kernels
