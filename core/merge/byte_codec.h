// Numbers and strings as bytes, and back without trust.

#ifndef TALLYD_CORE_MERGE_BYTE_CODEC_H_
#define TALLYD_CORE_MERGE_BYTE_CODEC_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace tallyd {

static_assert(std::endian::native == std::endian::little);

// Appends to a string. Thread-compatible.
class ByteWriter {
 public:
  explicit ByteWriter(std::string* out) : out_(out) {}

  template <class T>
  void Fixed(T value) {
    char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof(T));
    out_->append(bytes, sizeof(T));
  }
  void Byte(uint8_t value) { out_->push_back(static_cast<char>(value)); }
  // Seven bits a byte, the lowest first.
  void Number(uint64_t value) {
    while (value >= 0x80) {
      Byte(static_cast<uint8_t>(value | 0x80));
      value >>= 7;
    }
    Byte(static_cast<uint8_t>(value));
  }
  // Small numbers of either sign are short.
  void Signed(int64_t value) {
    Number(static_cast<uint64_t>(value) << 1 ^ static_cast<uint64_t>(value >> 63));
  }
  void Text(std::string_view text) {
    Number(text.size());
    out_->append(text);
  }

 private:
  std::string* out_;
};

// Reads what ByteWriter wrote. After the first thing that is not there, or not as it should be,
// ok() is false and everything reads as zero. Thread-compatible.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes_untrusted) : rest_(bytes_untrusted) {}

  bool ok() const { return ok_; }
  bool at_end() const { return rest_.empty(); }
  // Something that was read cannot be.
  void Refuse() {
    ok_ = false;
    rest_ = {};
  }

  template <class T>
  T Fixed() {
    T value{};
    if (rest_.size() < sizeof(T)) {
      Refuse();
      return value;
    }
    std::memcpy(&value, rest_.data(), sizeof(T));
    rest_.remove_prefix(sizeof(T));
    return value;
  }
  uint8_t Byte() { return Fixed<uint8_t>(); }
  uint64_t Number(uint64_t most = UINT64_MAX) {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const uint8_t byte = Byte();
      // The tenth byte has room for one bit.
      if (shift == 63 && byte > 1) break;
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) {
        if (value <= most) return value;
        break;
      }
    }
    Refuse();
    return 0;
  }
  int64_t Signed(int64_t least, int64_t most) {
    const uint64_t folded = Number();
    const auto value = static_cast<int64_t>(folded >> 1 ^ (~(folded & 1) + 1));
    if (value >= least && value <= most) return value;
    Refuse();
    return 0;
  }
  bool Bool() { return Number(1) != 0; }
  // A view of the bytes.
  std::string_view Text(uint64_t most = UINT32_MAX) { return Bytes(Number(most)); }
  std::string_view Bytes(uint64_t size) {
    if (size > rest_.size()) {
      Refuse();
      return {};
    }
    const std::string_view bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return bytes;
  }
  // How many things follow, each of which takes `least_bytes` at least: so nobody makes room for
  // more than there are.
  size_t Count(size_t least_bytes, uint64_t most = UINT64_MAX) {
    const uint64_t room = rest_.size() / least_bytes;
    return Number(room < most ? room : most);
  }

 private:
  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_MERGE_BYTE_CODEC_H_
