// How targets that want more than bytes take their input apart.

#ifndef TALLYD_TESTS_FUZZ_INPUT_H_
#define TALLYD_TESTS_FUZZ_INPUT_H_

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

namespace tallyd {

// Takes from the front; zeros, and no bytes, when it is used up.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  bool empty() const { return size_ == 0; }
  uint8_t Byte() { return static_cast<uint8_t>(Word(1)); }
  uint64_t Integer() { return Word(8); }
  double Double() { return std::bit_cast<double>(Integer()); }
  std::string Bytes(size_t most) {
    std::string bytes(std::min(most, size_), '\0');
    Take(bytes.data(), bytes.size());
    return bytes;
  }
  // As many bytes as the next one says, but not more than `most`.
  std::string Text(size_t most) { return Bytes(std::min<size_t>(Byte(), most)); }

 private:
  uint64_t Word(size_t bytes) {
    uint64_t value = 0;
    Take(&value, std::min(bytes, size_));
    return value;
  }

  void Take(void* to, size_t bytes) {
    if (bytes == 0) return;
    std::memcpy(to, data_, bytes);
    data_ += bytes;
    size_ -= bytes;
  }

  const uint8_t* data_;
  size_t size_;
};

}  // namespace tallyd

#endif  // TALLYD_TESTS_FUZZ_INPUT_H_
