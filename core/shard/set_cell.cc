#include "core/shard/set_cell.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "core/shard/cells.h"

namespace tallyd {

static_assert(SetCell::kRegisters == 1 << 12);

uint64_t SetCell::HashMember(std::string_view member, uint64_t seed) {
  const uint64_t hash = XXH3_64bits_withSeed(member.data(), member.size(), seed);
  return hash == 0 ? 1 : hash;  // zero is an empty place
}

uint64_t SetCell::Pack(const Header& header) {
  return static_cast<uint64_t>(header.window) | static_cast<uint64_t>(header.mode) << 32;
}

SetCell::Header SetCell::Unpack(uint64_t word) {
  return {.window = static_cast<uint32_t>(word), .mode = static_cast<Mode>(word >> 32 & 1)};
}

uint64_t SetCell::touch() const { return LoadWord(words_[0]); }

void SetCell::BeginWindow(int64_t now_ns, Header* now) {
  StoreWord(words_[0], static_cast<uint64_t>(now_ns));
  *now = Unpack(header().Own());
  if (now->window == WindowAt(now_ns)) return;
  *now = {.window = WindowAt(now_ns), .mode = Mode::kExact};
  header().Rewrite(Pack(*now), [this] {
    for (uint32_t i = 0; i < kDataWords; ++i) StoreWord(data()[i], 0);
    StoreWord(words_[2], 0);
  });
}

void SetCell::Add(uint64_t hash, int64_t now_ns) {
  Header now;
  BeginWindow(now_ns, &now);
  if (now.mode == Mode::kExact) {
    AddExact(hash, now);
  } else {
    AddToSketch(hash);
  }
}

void SetCell::AddAll(std::span<const uint8_t> registers, std::span<const uint64_t> member_hashes,
                     int64_t now_ns) {
  Header now;
  BeginWindow(now_ns, &now);
  if (!registers.empty() && now.mode == Mode::kExact) BecomeSketch(now);
  for (uint32_t i = 0; i < registers.size(); ++i) RaiseRegister(i, registers[i]);
  for (const uint64_t hash : member_hashes) {
    if (hash != 0) Add(hash, now_ns);
  }
}

void SetCell::AddExact(uint64_t hash, Header now) {
  uint32_t place = static_cast<uint32_t>(hash) % kDataWords;
  for (uint64_t found; (found = LoadWord(data()[place])) != 0; place = (place + 1) % kDataWords) {
    if (found == hash) return;
  }
  const uint64_t members = LoadWord(words_[2]);
  if (members < kMaxExact) {
    StoreWord(data()[place], hash);
    StoreWord(words_[2], members + 1);
    return;
  }
  BecomeSketch(now);
  AddToSketch(hash);
}

void SetCell::BecomeSketch(Header now) {
  now.mode = Mode::kSketch;
  header().Rewrite(Pack(now), [this] {
    std::array<uint64_t, kDataWords> members_or_zero;
    for (uint32_t i = 0; i < kDataWords; ++i) {
      members_or_zero[i] = LoadWord(data()[i]);
      StoreWord(data()[i], 0);
    }
    for (const uint64_t member : members_or_zero) {
      if (member != 0) AddToSketch(member);
    }
  });
}

void SetCell::AddToSketch(uint64_t hash) {
  RaiseRegister(SetUnion::RegisterOf(hash), SetUnion::RankOf(hash));
}

void SetCell::RaiseRegister(uint32_t index, uint64_t rank) {
  CellWord& word = data()[index / 8];
  const int shift = static_cast<int>(index % 8 * 8);
  const uint64_t registers = LoadWord(word);
  if ((registers >> shift & 0xff) >= rank) return;
  StoreWord(word, (registers & ~(uint64_t{0xff} << shift)) | rank << shift);
}

bool SetCell::AddTo(int64_t now_ns, SetUnion* all) const {
  constexpr int kTries = 3;
  Header now;
  std::array<uint64_t, kDataWords> copy;
  const bool whole = header().ReadWhole(kTries, [&](uint64_t word) {
    now = Unpack(word);
    if (now.window != WindowAt(now_ns)) return;  // no member yet, or the owner is about to begin
    for (uint32_t i = 0; i < kDataWords; ++i) copy[i] = LoadWord(data()[i]);
  });
  if (!whole) return false;
  if (now.window != WindowAt(now_ns)) return true;
  for (uint32_t i = 0; i < kDataWords; ++i) {
    if (now.mode == Mode::kExact) {
      if (copy[i] != 0) all->AddHash(copy[i]);
      continue;
    }
    for (uint32_t byte = 0; byte < 8; ++byte) {
      all->AddRegister(i * 8 + byte, static_cast<uint8_t>(copy[i] >> (byte * 8)));
    }
  }
  return true;
}

uint8_t SetUnion::RankOf(uint64_t hash) {
  // The guard bit bounds the rank at 53 for a hash whose 52 bits are all zero.
  return static_cast<uint8_t>(std::countl_zero(hash << 12 | uint64_t{1} << 11) + 1);
}

void SetUnion::AddHash(uint64_t hash) { hashes_.push_back(hash); }

void SetUnion::AddRegister(uint32_t index, uint8_t rank) {
  sketch_ = true;
  registers_[index] = std::max(registers_[index], rank);
}

double SetUnion::Estimate() {
  if (!sketch_) {
    std::sort(hashes_.begin(), hashes_.end());
    return static_cast<double>(std::unique(hashes_.begin(), hashes_.end()) - hashes_.begin());
  }
  for (const uint64_t hash : hashes_) AddRegister(RegisterOf(hash), RankOf(hash));
  hashes_.clear();

  // Ertl, "New cardinality estimation algorithms for HyperLogLog sketches", algorithm 6.
  constexpr int kMaxRank = 53;
  constexpr double kM = SetCell::kRegisters;
  std::array<double, kMaxRank + 1> counts{};
  for (const uint8_t rank : registers_) counts[std::min<int>(rank, kMaxRank)] += 1;
  const auto tau = [](double x) {
    if (x == 0 || x == 1) return 0.0;
    double y = 1;
    double z = 1 - x;
    for (double last = -1; last != z;) {
      last = z;
      x = std::sqrt(x);
      y /= 2;
      z -= (1 - x) * (1 - x) * y;
    }
    return z / 3;
  };
  const auto sigma = [](double x) {
    if (x == 1) return std::numeric_limits<double>::infinity();
    double y = 1;
    double z = x;
    for (double last = -1; last != z;) {
      last = z;
      x *= x;
      z += x * y;
      y += y;
    }
    return z;
  };
  double z = kM * tau(1 - counts[kMaxRank] / kM);
  for (int rank = kMaxRank - 1; rank >= 1; --rank) z = (z + counts[rank]) / 2;
  z += kM * sigma(counts[0] / kM);
  constexpr double kAlphaInfinity = 0.7213475204444817;  // 1 / (2 ln 2)
  return std::round(kAlphaInfinity * kM * kM / z);
}

}  // namespace tallyd
