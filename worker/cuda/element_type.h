// Element types of the kernels.
#pragma once

namespace moe::cuda {

enum class ElementType { kFp32, kBf16 };

}  // namespace moe::cuda
