#include "bench/load/plan.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <numeric>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace tallyd::bench {
namespace {

constexpr size_t kLengthBytes = 4;

// std::mt19937_64 is the same everywhere; the distributions of the library are not, hence our own.
class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}

  uint32_t Below(uint32_t end) { return static_cast<uint32_t>((engine_() >> 32) * end >> 32); }
  bool Chance(double p) { return static_cast<double>(engine_() >> 11) * 0x1p-53 < p; }

 private:
  std::mt19937_64 engine_;
};

// Which series the next line is for: all of a generation once, in random order, then any.
class SeriesChooser {
 public:
  SeriesChooser(const Workload& workload, Random* random)
      : workload_(workload), random_(*random), order_(workload.series) {
    StartGeneration();
  }

  uint32_t Next() {
    if (workload_.churn_lines > 0 && in_generation_ == workload_.churn_lines) {
      ++generation_;
      StartGeneration();
    }
    const uint64_t n = in_generation_++;
    uint32_t chosen;
    if (workload_.sequential) {
      chosen = static_cast<uint32_t>(n % workload_.series);
    } else if (n < order_.size()) {
      chosen = order_[n];
    } else {
      chosen = random_.Below(workload_.series);
    }
    return generation_ * workload_.series + chosen;
  }

 private:
  void StartGeneration() {
    in_generation_ = 0;
    if (workload_.sequential) return;
    std::iota(order_.begin(), order_.end(), 0u);
    for (uint32_t i = workload_.series; i > 1; --i) {
      std::swap(order_[i - 1], order_[random_.Below(i)]);
    }
  }

  const Workload& workload_;
  Random& random_;
  std::vector<uint32_t> order_;
  uint64_t in_generation_ = 0;
  uint32_t generation_ = 0;
};

// Values that reach every bucket of the default bounds, and the one beyond them, about equally.
int32_t RandomMilliseconds(Random* random) {
  static constexpr std::array<uint32_t, 12> kTops = {5,   10,   25,   50,   100,    250,
                                                     500, 1000, 2500, 5000, 10'000, 20'000};
  return static_cast<int32_t>(1 + random->Below(kTops[random->Below(kTops.size())]));
}

int32_t RandomValue(Kind kind, bool change, Random* random) {
  switch (kind) {
    case Kind::kCounter:
      return static_cast<int32_t>(1 + random->Below(100));
    case Kind::kGauge:
      return change ? static_cast<int32_t>(random->Below(801)) - 400
                    : static_cast<int32_t>(random->Below(4000));
    case Kind::kTimer:
      return RandomMilliseconds(random);
    case Kind::kSet:
      return static_cast<int32_t>(random->Below(1000));
  }
  std::abort();
}

void AppendQuarters(int32_t quarters, bool sign, std::string* out) {
  static constexpr std::array<absl::string_view, 4> kFractions = {"", ".25", ".5", ".75"};
  const uint32_t size = static_cast<uint32_t>(std::abs(quarters));
  absl::StrAppend(out, quarters < 0 ? "-" : (sign ? "+" : ""), size / 4, kFractions[size % 4]);
}

void AppendValueText(Kind kind, bool change, int32_t value, std::string* out) {
  if (kind == Kind::kGauge) {
    AppendQuarters(value, change, out);
  } else {
    absl::StrAppend(out, kind == Kind::kSet ? "u" : "", value);
  }
}

absl::string_view TypeText(Kind kind) {
  static constexpr std::array<absl::string_view, kKinds> kTypes = {"c", "g", "ms", "s"};
  return kTypes[static_cast<size_t>(kind)];
}

// Makes line after line and hands each to the ring of its sender.
class PlanBuilder {
 public:
  explicit PlanBuilder(Plan* plan)
      : plan_(*plan), random_(plan->workload.seed), chooser_(w_, &random_) {}

  absl::Status AddLine() {
    const uint32_t series = chooser_.Next();
    const Kind kind = plan_.catalog.KindOf(series);
    PacketRing& ring = plan_.rings[SenderOf(series, kind)];
    const Line line = WriteLine(series, kind, &ring);
    if (text_.size() > w_.packet_bytes) {
      return absl::InvalidArgumentError(absl::StrCat("a line of ", text_.size(),
                                                     " bytes does not fit packets of ",
                                                     w_.packet_bytes, ": ", text_));
    }
    ring.Append(text_, line, w_);
    return absl::OkStatus();
  }

 private:
  uint32_t SenderOf(uint32_t series, Kind kind) {
    if (w_.senders == 1) return 0;
    return kind == Kind::kGauge ? series % w_.senders : random_.Below(w_.senders);
  }

  // Leaves the text in text_.
  Line WriteLine(uint32_t series, Kind kind, PacketRing* ring) {
    const bool can_sample = kind == Kind::kCounter || kind == Kind::kTimer;
    Line line = {.series = series,
                 .first_value = 0,
                 .value_count = static_cast<uint16_t>(kind == Kind::kSet ? 1 : w_.packing),
                 .sampled = can_sample && random_.Chance(w_.sampled),
                 .change = kind == Kind::kGauge && random_.Chance(w_.gauge_changes)};
    text_.clear();
    plan_.catalog.AppendName(series, &text_);
    for (uint16_t i = 0; i < line.value_count; ++i) {
      const int32_t value = RandomValue(kind, line.change, &random_);
      const uint32_t index = ring->AppendValue(value);
      if (i == 0) line.first_value = index;
      text_ += ':';
      AppendValueText(kind, line.change, value, &text_);
    }
    absl::StrAppend(&text_, "|", TypeText(kind), line.sampled ? "|@0.5" : "");
    if (w_.tags > 0) {
      text_ += "|#";
      plan_.catalog.AppendTags(series, &text_);
    }
    return line;
  }

  Plan& plan_;
  const Workload& w_ = plan_.workload;
  Random random_;
  SeriesChooser chooser_;
  std::string text_;
};

}  // namespace

void PacketRing::StartPacket() {
  bytes_.append(kLengthBytes, '\0');
  packets_.push_back({.offset = bytes_.size(),
                      .size = 0,
                      .first_line = static_cast<uint32_t>(lines_.size()),
                      .lines = 0,
                      .samples = 0});
}

void PacketRing::SetLength(const Packet& packet) {
  for (size_t i = 0; i < kLengthBytes; ++i) {
    bytes_[packet.offset - kLengthBytes + i] = static_cast<char>(packet.size >> (8 * i) & 0xff);
  }
}

void PacketRing::Append(absl::string_view text, const Line& line, const Workload& workload) {
  const auto fits = [&](const Packet& last) {
    return last.size + 1 + text.size() <= workload.packet_bytes &&
           (workload.lines_per_packet == 0 || last.lines < workload.lines_per_packet);
  };
  if (packets_.empty() || !fits(packets_.back())) StartPacket();
  Packet& packet = packets_.back();
  // The line feed after the last line is there already and becomes the separator.
  absl::StrAppend(&bytes_, text, "\n");
  packet.size = static_cast<uint32_t>(bytes_.size() - 1 - packet.offset);
  ++packet.lines;
  packet.samples += line.value_count;
  SetLength(packet);
  lines_.push_back(line);
  looped_ = packets_.size();
  ++looped_lines_;
}

uint32_t PacketRing::AppendValue(int32_t value) {
  values_.push_back(value);
  return static_cast<uint32_t>(values_.size() - 1);
}

void PacketRing::CutAt(uint64_t seq, uint32_t lines) {
  const Packet whole = At(seq);
  const std::string payload(Payload(whole));
  StartPacket();
  Packet& cut = packets_.back();
  cut.first_line = whole.first_line;
  cut.lines = lines;
  for (const Line& line : Lines(cut)) cut.samples += line.value_count;
  size_t end = 0;
  for (uint32_t i = 0; i < lines; ++i) end = std::min(payload.find('\n', end), payload.size()) + 1;
  cut.size = static_cast<uint32_t>(end - 1);
  absl::StrAppend(&bytes_, payload.substr(0, cut.size), "\n");
  SetLength(cut);
  cut_seq_ = seq;
}

absl::string_view PacketRing::Bytes(const Packet& packet, Framing framing) const {
  const absl::string_view bytes = bytes_;
  switch (framing) {
    case Framing::kDatagram:
      return bytes.substr(packet.offset, packet.size);
    case Framing::kLengthPrefixed:
      return bytes.substr(packet.offset - kLengthBytes, kLengthBytes + packet.size);
    case Framing::kNewline:
      return bytes.substr(packet.offset, packet.size + 1);
  }
  std::abort();
}

absl::StatusOr<Plan> BuildPlan(const Workload& workload) {
  if (absl::Status status = Validate(workload); !status.ok()) return status;
  Plan plan = {.workload = workload, .catalog = Catalog(workload), .rings = {}};
  plan.rings.resize(workload.senders);
  plan.ring_lines = workload.ring_lines > 0 ? workload.ring_lines : DefaultRingLines(workload, 0);
  PlanBuilder builder(&plan);
  for (uint64_t i = 0; i < plan.ring_lines; ++i) {
    if (absl::Status status = builder.AddLine(); !status.ok()) return status;
  }
  for (const PacketRing& ring : plan.rings) {
    if (ring.size() == 0) return absl::InvalidArgumentError("fewer lines than senders");
  }
  return plan;
}

std::vector<uint64_t> QuotasForLines(uint64_t lines, Plan* plan) {
  const uint64_t loops = lines / plan->ring_lines;
  std::vector<uint64_t> quotas;
  for (const PacketRing& ring : plan->rings) quotas.push_back(loops * ring.size());
  uint64_t left = lines % plan->ring_lines;
  for (size_t sender = 0; left > 0; sender = (sender + 1) % quotas.size()) {
    PacketRing& ring = plan->rings[sender];
    const uint64_t seq = quotas[sender]++;
    const uint32_t packet_lines = ring.At(seq).lines;
    if (packet_lines > left) ring.CutAt(seq, static_cast<uint32_t>(left));
    left -= std::min<uint64_t>(left, packet_lines);
  }
  return quotas;
}

}  // namespace tallyd::bench
