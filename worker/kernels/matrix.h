// Views of matrices in memory that somebody else owns.
#pragma once

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
  // Some columns of a matrix that is not transposed.
  Matrix Columns(int64_t begin, int64_t count) const { return {data + begin, rows, count, stride}; }
  Matrix Transposed() const {
    Matrix result(data, cols, rows, stride);
    result.is_transposed = !is_transposed;
    return result;
  }
};

// What a product does with what is there.
enum class Output { kOverwrite, kAdd };

}  // namespace moe::kernels
