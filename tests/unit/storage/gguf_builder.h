// Makes GGUF files byte by byte, so that tests can also make wrong ones.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "storage/artefacts/gguf.h"

namespace moe::artefacts {

template <typename T>
std::string Bytes(const T& value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}
template <typename T>
std::string Bytes(const std::vector<T>& values) {
  std::string bytes;
  for (const T& value : values) bytes += Bytes(value);
  return bytes;
}
inline std::string GgufString(const std::string& text) {
  return Bytes<uint64_t>(text.size()) + text;
}

struct GgufBuilder {
  struct Tensor {
    std::string name;
    std::vector<uint64_t> shape;  // slowest first
    uint32_t type = 0;
    std::string data;
    std::optional<uint64_t> offset;  // from the start of the data, instead of the right one
  };

  std::string magic = "GGUF";
  uint32_t version = 3;
  std::optional<uint64_t> num_pairs, num_tensors;  // instead of the right ones
  uint64_t alignment = 32;                         // of the tensors; not written by itself
  std::vector<std::string> pairs;
  std::vector<Tensor> tensors;

  GgufBuilder& Raw(const std::string& key, GgufValueType type, const std::string& bytes) {
    pairs.push_back(GgufString(key) + Bytes(type) + bytes);
    return *this;
  }
  GgufBuilder& Array(const std::string& key, GgufValueType type, uint64_t count,
                     const std::string& bytes) {
    return Raw(key, GgufValueType::kArray, Bytes(type) + Bytes(count) + bytes);
  }
  GgufBuilder& String(const std::string& key, const std::string& value) {
    return Raw(key, GgufValueType::kString, GgufString(value));
  }
  GgufBuilder& Uint32(const std::string& key, uint32_t value) {
    return Raw(key, GgufValueType::kUint32, Bytes(value));
  }
  GgufBuilder& Float32(const std::string& key, float value) {
    return Raw(key, GgufValueType::kFloat32, Bytes(value));
  }
  GgufBuilder& Strings(const std::string& key, const std::vector<std::string>& values) {
    std::string bytes;
    for (const std::string& value : values) bytes += GgufString(value);
    return Array(key, GgufValueType::kString, values.size(), bytes);
  }
  GgufBuilder& Add(Tensor tensor) {
    tensors.push_back(std::move(tensor));
    return *this;
  }
  GgufBuilder& Floats(const std::string& name, std::vector<uint64_t> shape,
                      const std::vector<float>& values) {
    return Add({name, std::move(shape), 0, Bytes(values), std::nullopt});
  }

  // Header, metadata and tensor descriptions: everything that Open() interprets.
  std::string Head() const {
    std::string head = magic + Bytes(version) + Bytes(num_tensors.value_or(tensors.size())) +
                       Bytes(num_pairs.value_or(pairs.size()));
    for (const std::string& pair : pairs) head += pair;
    uint64_t offset = 0;
    for (const Tensor& tensor : tensors) {
      head += GgufString(tensor.name) + Bytes(static_cast<uint32_t>(tensor.shape.size()));
      for (size_t i = tensor.shape.size(); i-- > 0;) head += Bytes(tensor.shape[i]);
      head += Bytes(tensor.type) + Bytes(tensor.offset.value_or(offset));
      offset += Padded(tensor.data.size());
    }
    return head;
  }
  std::string Build() const {
    std::string file = Head();
    file.resize(Padded(file.size()), '\0');
    for (const Tensor& tensor : tensors) {
      file += tensor.data;
      file.resize(Padded(file.size()), '\0');
    }
    return file;
  }

 private:
  uint64_t Padded(uint64_t size) const { return (size + alignment - 1) / alignment * alignment; }
};

}  // namespace moe::artefacts
