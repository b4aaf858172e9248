// The few parts of the protobuf wire format that exposition and remote write are made of.

#ifndef TALLYD_CORE_EXPOSE_PROTOBUF_WIRE_H_
#define TALLYD_CORE_EXPOSE_PROTOBUF_WIRE_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace tallyd::protobuf_wire {

enum class WireType : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2 };

constexpr uint8_t Tag(int field, WireType type) {
  return static_cast<uint8_t>(field << 3 | static_cast<int>(type));
}

constexpr uint64_t ZigZag(int64_t value) {
  return (static_cast<uint64_t>(value) << 1) ^ static_cast<uint64_t>(value >> 63);
}

inline size_t VarintBytes(uint64_t value) {
  return static_cast<size_t>(std::bit_width(value | 1) + 6) / 7;
}

inline void PutVarint(uint64_t value, std::string* out) {
  while (value >= 0x80) {
    out->push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out->push_back(static_cast<char>(value));
}

// Fields up to 15 have a tag of one byte, up to 2047 one of two.
inline void PutTag(int field, WireType type, std::string* out) {
  PutVarint(static_cast<uint64_t>(field) << 3 | static_cast<uint64_t>(type), out);
}

inline void PutVarintField(int field, uint64_t value, std::string* out) {
  PutTag(field, WireType::kVarint, out);
  PutVarint(value, out);
}

inline void PutBytesField(int field, std::string_view bytes, std::string* out) {
  PutTag(field, WireType::kBytes, out);
  PutVarint(bytes.size(), out);
  out->append(bytes);
}

inline void PutFixed64Field(int field, uint64_t bits, std::string* out) {
  static_assert(std::endian::native == std::endian::little);
  char bytes[8];
  std::memcpy(bytes, &bits, sizeof(bytes));
  PutTag(field, WireType::kFixed64, out);
  out->append(bytes, sizeof(bytes));
}

inline void PutDoubleField(int field, double value, std::string* out) {
  PutFixed64Field(field, std::bit_cast<uint64_t>(value), out);
}

// What is written many times for each series goes to memory whose size was calculated before. These
// return the end of what they wrote.

inline char* WriteVarint(uint64_t value, char* at) {
  while (value >= 0x80) {
    *at++ = static_cast<char>(value | 0x80);
    value >>= 7;
  }
  *at++ = static_cast<char>(value);
  return at;
}

inline char* WriteBytes(std::string_view bytes, char* at) {
  std::memcpy(at, bytes.data(), bytes.size());
  return at + bytes.size();
}

// Of a field with a tag of one byte: tag and length, or all of it.
inline char* WriteBytesHead(int field, size_t size, char* at) {
  *at++ = static_cast<char>(Tag(field, WireType::kBytes));
  return WriteVarint(size, at);
}

inline char* WriteBytesField(int field, std::string_view bytes, char* at) {
  return WriteBytes(bytes, WriteBytesHead(field, bytes.size(), at));
}

inline size_t BytesFieldBytes(size_t size) { return 1 + VarintBytes(size) + size; }

// Appends so many bytes, to be written.
inline char* Grow(size_t bytes, std::string* out) {
  const size_t before = out->size();
  out->resize(before + bytes);
  return out->data() + before;
}

// Of bytes that this process wrote: nothing is checked.
inline uint64_t TakeVarint(std::string_view* bytes) {
  uint64_t value = 0;
  size_t used = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    const auto byte = static_cast<uint8_t>((*bytes)[used++]);
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) break;
  }
  bytes->remove_prefix(used);
  return value;
}

inline std::string_view TakeBytes(size_t size, std::string_view* bytes) {
  const std::string_view taken = bytes->substr(0, size);
  bytes->remove_prefix(taken.size());
  return taken;
}

// A field of bytes with a tag of one byte: its content.
inline std::string_view TakeBytesField(std::string_view* bytes) {
  bytes->remove_prefix(1);
  const uint64_t size = TakeVarint(bytes);
  return TakeBytes(size, bytes);
}

}  // namespace tallyd::protobuf_wire

#endif  // TALLYD_CORE_EXPOSE_PROTOBUF_WIRE_H_
