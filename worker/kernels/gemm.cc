#include "worker/kernels/gemm.h"

#include <stdexcept>
#include <string>
#include <type_traits>

#include "worker/kernels/convert.h"

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

// A dense fp32 copy, of the same orientation, in `storage`.
Matrix<const float> Widen(const Matrix<const c10::BFloat16>& matrix, Buffer<float>& storage) {
  const int64_t stored_rows = matrix.is_transposed ? matrix.cols : matrix.rows;
  const int64_t stored_cols = matrix.is_transposed ? matrix.rows : matrix.cols;
  float* wide = storage.Reserve(stored_rows * stored_cols);
  ConvertRows(matrix.data, matrix.stride, stored_rows, stored_cols, wide, stored_cols);
  const Matrix<const float> stored(wide, stored_rows, stored_cols);
  return matrix.is_transposed ? stored.Transposed() : stored;
}

// Of one product at a time.
struct Scratch {
  Buffer<float> a, c;
  RightSide<c10::BFloat16> b;
};

Scratch& ThreadScratch() {
  thread_local Scratch scratch;
  return scratch;
}

}  // namespace

template <typename T>
void RightSide<T>::Prepare(const Matrix<const T>& matrix) {
  plain_ = matrix;
  if constexpr (std::is_same_v<T, c10::BFloat16>) {
    if (CpuPrefersBf16()) {
      tiles_.Pack(matrix);
    } else {
      wide_ = Widen(matrix, wide_room_);
    }
  }
}

template class RightSide<float>;
template class RightSide<c10::BFloat16>;

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

void Gemm(Matrix<const float> a, const RightSide<float>& b, Output output, Matrix<float> c) {
  Gemm(a, b.plain(), output, c);
}

void Gemm(Matrix<const c10::BFloat16> a, Matrix<const c10::BFloat16> b, Output output,
          Matrix<float> c) {
  RightSide<c10::BFloat16>& right = ThreadScratch().b;
  right.Prepare(b);
  Gemm(a, right, output, c);
}

void Gemm(Matrix<const c10::BFloat16> a, const RightSide<c10::BFloat16>& b, Output output,
          Matrix<float> c) {
  CheckShapes(a, b.plain(), c);
  if (c.rows == 0 || c.cols == 0) return;
  if (CpuPrefersBf16()) return TileGemm(a, b.tiles(), output, c);
  Gemm(Widen(a, ThreadScratch().a), b.wide(), output, c);
}

void Gemm(Matrix<const c10::BFloat16> a, Matrix<const c10::BFloat16> b, Output output,
          Matrix<c10::BFloat16> c) {
  RightSide<c10::BFloat16>& right = ThreadScratch().b;
  right.Prepare(b);
  Gemm(a, right, output, c);
}

void Gemm(Matrix<const c10::BFloat16> a, const RightSide<c10::BFloat16>& b, Output output,
          Matrix<c10::BFloat16> c) {
  CheckShapes(a, b.plain(), c);
  if (output == Output::kAdd) throw std::invalid_argument("Gemm: adds to fp32 results only");
  if (c.rows == 0 || c.cols == 0) return;
  if (CpuPrefersBf16()) return TileGemm(a, b.tiles(), c);
  Scratch& scratch = ThreadScratch();
  float* product = scratch.c.Reserve(c.rows * c.cols);
  Gemm(Widen(a, scratch.a), b.wide(), Output::kOverwrite, Matrix<float>(product, c.rows, c.cols));
  ConvertRows(product, c.cols, c.rows, c.cols, c.data, c.stride);
}

}  // namespace moe::kernels
