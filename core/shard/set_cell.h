// Distinct members of a set within a window of time, in fixed memory.
//
//   0 touch      time of the last sample
//   1 header     mode, number of the window, and a version: VersionedHeader
//   2 members    in exact mode: how many
//   8 data       kDataWords: exact mode: hashes of the members, an open-addressing table;
//                sketch mode: kRegisters registers of one byte
//
// Up to kMaxExact members are counted exactly, more by HyperLogLog (Flajolet et al. 2007) with
// Ertl's estimator (2017): standard error 1.04 / sqrt(kRegisters) = 1.6 %. Members are told apart
// by a seeded 64-bit hash that is the same in all shards, so the merger can unite their cells.

#ifndef TALLYD_CORE_SHARD_SET_CELL_H_
#define TALLYD_CORE_SHARD_SET_CELL_H_

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/shard/shard_memory.h"

namespace tallyd {

class SetUnion;

class SetCell {
 public:
  static constexpr int64_t kWindowNs = int64_t{60} * 1'000'000'000;
  static constexpr uint32_t kDataWords = 512;
  static constexpr uint32_t kWords = 8 + kDataWords;
  static constexpr uint32_t kMaxExact = 256;
  static constexpr uint32_t kRegisters = kDataWords * 8;

  explicit SetCell(CellWord* words) : words_(words) {}

  static uint64_t HashMember(std::string_view member_untrusted, uint64_t seed);
  static uint32_t WindowAt(int64_t now_ns) { return static_cast<uint32_t>(now_ns / kWindowNs); }

  // Owner thread.
  void Add(uint64_t member_hash, int64_t now_ns);
  // Owner thread. Adds the members that a sketch, if there is one, and hashes stand for.
  void AddAll(std::span<const uint8_t> registers, std::span<const uint64_t> member_hashes,
              int64_t now_ns);

  // Merger thread. Adds the members of the window that `now_ns` is in to `all`. False if the owner
  // was rewriting the cell each time we looked.
  bool AddTo(int64_t now_ns, SetUnion* all) const;
  uint64_t touch() const;

 private:
  enum class Mode : uint8_t { kExact, kSketch };
  // Without the version, which VersionedHeader alone counts.
  struct Header {
    uint32_t window = 0;
    Mode mode = Mode::kExact;
  };
  static uint64_t Pack(const Header& header);
  static Header Unpack(uint64_t word);

  VersionedHeader<StdAtomics> header() const { return VersionedHeader<StdAtomics>(words_[1]); }
  CellWord* data() const { return words_ + 8; }
  void AddExact(uint64_t hash, Header now);
  void AddToSketch(uint64_t hash);
  void RaiseRegister(uint32_t index, uint64_t rank);
  void BeginWindow(int64_t now_ns, Header* now);
  void BecomeSketch(Header now);

  CellWord* words_;
};

// The members of several cells together. Merger thread.
class SetUnion {
 public:
  void AddHash(uint64_t hash);
  void AddRegister(uint32_t index, uint8_t rank);
  // What was added, hashes as they came; registers only if a sketch was among the parts.
  const std::vector<uint64_t>& hashes() const { return hashes_; }
  bool is_sketch() const { return sketch_; }
  std::span<const uint8_t> registers() const { return registers_; }
  // The number of distinct members: exact unless a sketch was among the parts.
  double Estimate();

  static uint32_t RegisterOf(uint64_t hash) {
    return static_cast<uint32_t>(hash >> 52);  // kRegisters is 2^12
  }
  // The position of the first one bit among the 52 that remain, from 1.
  static uint8_t RankOf(uint64_t hash);

 private:
  bool sketch_ = false;
  std::vector<uint64_t> hashes_;
  std::array<uint8_t, SetCell::kRegisters> registers_{};
};

}  // namespace tallyd

#endif  // TALLYD_CORE_SHARD_SET_CELL_H_
