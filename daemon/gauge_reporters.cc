#include "daemon/gauge_reporters.h"

#include <algorithm>

namespace tallyd {

// Senders that the kernel does not name, or not as a process of our namespace, cannot be told apart
// nor be asked for their end: nothing is said of them.
std::optional<std::string> GaugeReporters::Note(const std::string& family, const SenderInfo& sender,
                                                const std::string& text) {
  if (sender.kind != SenderInfo::Kind::kProcess || sender.who.pid <= 0) return {};
  if (families_.size() >= kMaxFamilies && !families_.contains(family)) return {};
  Processes& processes = families_[family];
  const auto living = std::find_if(processes.begin(), processes.end(),
                                   [this](const Process& process) { return !IsGone(process); });
  processes.erase(processes.begin(), living);
  Process* const process = FindOrAdd(sender, text, &processes);
  if (process == nullptr || process == processes.data() || process->was_said) return {};
  process->was_said = true;
  return processes.front().text;
}

// Null if it has ended, or if there is no room. The names of a process may come after its first
// sample, and with them when it began.
GaugeReporters::Process* GaugeReporters::FindOrAdd(const SenderInfo& sender,
                                                   const std::string& text,
                                                   Processes* processes) const {
  const uint64_t ticks = sender.names.start_ticks;
  for (Process& process : *processes) {
    if (process.pid != sender.who.pid) continue;
    if (process.start_ticks != 0 && ticks != 0 && process.start_ticks != ticks) continue;
    if (process.start_ticks == 0) process.start_ticks = ticks;
    return &process;
  }
  if (processes->size() == kMaxProcesses) {
    std::erase_if(*processes, [this](const Process& process) { return IsGone(process); });
  }
  if (processes->size() == kMaxProcesses) return nullptr;
  Process process = {.pid = sender.who.pid, .start_ticks = ticks, .text = text, .was_said = false};
  if (IsGone(process)) return nullptr;
  processes->push_back(std::move(process));
  return &processes->back();
}

void GaugeReporters::Forget() {
  for (auto& [family, processes] : families_) {
    for (Process& process : processes) process.was_said = false;
  }
}

}  // namespace tallyd
