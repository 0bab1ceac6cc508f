// Matrix products on raw memory: the one door to LibTorch's BLAS.
//
// fp32 goes to sgemm. bf16 goes to at::mm (oneDNN) where the CPU has AVX512-BF16; elsewhere ATen's
// bf16 product is tens of times slower than fp32, so operands are widened and go to sgemm: the same
// roundings of inputs and outputs, at nearly fp32 speed.
#pragma once

#include <c10/util/BFloat16.h>

#include <cstdint>

namespace moe::kernels {

// A view of a row-major matrix, or of the transpose of one.
template <typename T>
struct Matrix {
  T* data = nullptr;
  int64_t rows = 0, cols = 0;
  int64_t stride = 0;  // elements from one row of the stored matrix to the next
  bool is_transposed = false;

  Matrix(T* data, int64_t rows, int64_t cols) : Matrix(data, rows, cols, cols) {}
  Matrix(T* data, int64_t rows, int64_t cols, int64_t stride)
      : data(data), rows(rows), cols(cols), stride(stride) {}
  Matrix Transposed() const {
    Matrix result(data, cols, rows, stride);
    result.is_transposed = !is_transposed;
    return result;
  }
};

enum class Output { kOverwrite, kAdd };

// c = alpha a b, or c += alpha a b. c is not transposed. Uses all threads, or the calling one alone
// inside ParallelFor. Deterministic for a given number of threads.
void Gemm(Matrix<const float> a, Matrix<const float> b, Output output, Matrix<float> c,
          float alpha = 1.0f);
// fp32 accumulation. The fp32 result is not rounded to bf16 where operands are widened.
void Gemm(Matrix<const c10::BFloat16> a, Matrix<const c10::BFloat16> b, Output output,
          Matrix<float> c);
void Gemm(Matrix<const c10::BFloat16> a, Matrix<const c10::BFloat16> b, Output output,
          Matrix<c10::BFloat16> c);

// Whether at::mm multiplies bf16 with instructions made for it.
bool CpuMultipliesBf16();

}  // namespace moe::kernels
