#include "daemon/state_keeper.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <pthread.h>
#include <signal.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <future>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/merge/state_codec.h"
#include "daemon/clock.h"
#include "daemon/exit_code.h"
#include "daemon/file_text.h"
#include "daemon/log.h"
#include "daemon/state_ledger.h"

namespace tallyd {
namespace {

absl::StatusOr<uint64_t> Random() {
  uint64_t number = 0;
  while (number == 0) {
    if (::getrandom(&number, sizeof(number), 0) != sizeof(number)) {
      return absl::ErrnoToStatus(errno, "getrandom");
    }
  }
  return number;
}

std::string BootId() { return ReadFileText("/proc/sys/kernel/random/boot_id", 64).text; }

// So that whoever finds the memory knows what the numbers of listeners stood for.
void NameListeners(const std::vector<std::string>& names, const std::vector<Shard*>& shards) {
  for (Shard* shard : shards) {
    for (size_t i = 0; i < std::min(names.size(), Ledger::kMaxListeners); ++i) {
      ListenerName& name = shard->memory().listener_names()[i];
      names[i].copy(name.text, sizeof(name.text) - 1);
    }
  }
}

// Of a state, its head; and so whether it verifies.
class HeadReader : public StateVisitor {
 public:
  void OnHead(SavedHead head) override { head_ = std::move(head); }
  void OnSeries(SavedSeries*) override {}
  void OnExpired(SavedExpired*) override {}
  const SavedHead& head() const { return head_; }

 private:
  SavedHead head_;
};

}  // namespace

StateKeeper::StateKeeper(Options options) : options_(std::move(options)), boot_id_(BootId()) {}

absl::StatusOr<std::unique_ptr<StateKeeper>> StateKeeper::Open(const Options& options,
                                                               HandedFds* handed) {
  std::unique_ptr<StateKeeper> keeper(new StateKeeper(options));
  // Unknown to senders, so that they cannot choose keys that collide.
  const absl::StatusOr<uint64_t> seed = Random();
  if (!seed.ok()) return seed.status();
  keeper->hash_seed_ = *seed;
  const absl::StatusOr<uint64_t> session = Random();
  if (!session.ok()) return session.status();
  keeper->session_ = *session;
  // Whether or not they are of use: nobody else wants them.
  std::vector<HandedFd> left = KeptMemories::TakeFrom(handed);
  keeper->memories_ = std::make_unique<KeptMemories>(*session);
  if (options.directory.empty()) {
    LogInfo("no state directory: all counts begin anew with each start",
            {{"flag", "--state.directory"}});
    return keeper;
  }
  auto file = StateFile::Open(options.directory);
  if (absl::IsAlreadyExists(file.status())) return file.status();
  if (!file.ok()) {
    LogWarn("the state is not kept: its directory cannot be had",
            {{"error", std::string(file.status().message())}});
    return keeper;
  }
  keeper->file_ = *std::move(file);
  const absl::Status status = keeper->ReadSaved();
  if (!status.ok()) return status;
  keeper->memories_->Find(std::move(left), options.memory_directory);
  // What such a process has left says by hashes which series it counted for.
  if (!keeper->has_saved_) {
    keeper->hash_seed_ = keeper->memories_->SeedOf(0).value_or(keeper->hash_seed_);
  }
  return keeper;
}

StateKeeper::~StateKeeper() { Stop(); }

std::unique_ptr<StateFile> StateKeeper::FileBeside(const std::string& name) const {
  if (file_ == nullptr) return nullptr;
  auto file = file_->Beside(name);
  if (file.ok()) return *std::move(file);
  LogWarn("a file of the state directory cannot be had",
          {{"file", name}, {"error", std::string(file.status().message())}});
  return nullptr;
}

void StateKeeper::Stop() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mu_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

absl::Status StateKeeper::ReadSaved() {
  absl::StatusOr<std::string> bytes = file_->Read();
  if (absl::IsNotFound(bytes.status())) return absl::OkStatus();
  if (!bytes.ok()) return Refuse(bytes.status());
  HeadReader reader;
  const absl::Status status = DecodeState(*bytes, &reader);
  if (!status.ok()) return Refuse(status);
  saved_ = *std::move(bytes);
  has_saved_ = true;
  hash_seed_ = reader.head().hash_seed;
  parent_ = reader.head().session;
  return absl::OkStatus();
}

void StateKeeper::UseManager(const ServiceManager* manager) {
  if (file_ != nullptr) memories_->UseManager(manager);
}

ShardSet::Memories StateKeeper::NewMemories(int shards) {
  ShardSet::Memories memories;
  if (file_ != nullptr) memories = memories_->New(static_cast<size_t>(shards), parent_);
  memories.hash_seed = hash_seed_;
  return memories;
}

void StateKeeper::KeepMemories(const std::vector<ShardMemory*>& memories) {
  memories_->Keep(memories);
}

void StateKeeper::Release(uint64_t sequence) {
  merger_->Ask([sequence](Merger* merger) {
    if (merger != nullptr) merger->Release(sequence);
  });
}

// Each name is that of a listener as its process knew it.
void StateKeeper::Recover(const std::vector<KeptMemories::Left*>& left, const SavedHead& head,
                          const StateRestorer::Options& options, const std::vector<Shard*>& shards,
                          Merger* merger, const RuleBook* book, const SeriesBudget* budget,
                          const std::vector<std::string>& listeners) {
  if (left.empty()) return;
  MemoryRecovery recovery(options, shards, merger, book, budget);
  for (const KeptMemories::Left* memory : left) {
    const bool is_of_head = memory->memory->header().session.session == head.session;
    recovery.Read(memory->memory.get(), is_of_head ? head.folded : std::vector<SavedTenancy>(),
                  static_cast<uint32_t>(head.unix_s));
    std::vector<ListenerInfo> infos(Ledger::kMaxListeners);
    for (size_t i = 0; i < infos.size(); ++i) {
      const ListenerName& name = memory->memory->listener_names()[i];
      infos[i].name.assign(name.text, ::strnlen(name.text, sizeof(name.text)));
    }
    const LedgerTotals totals = SumLedgers({&memory->memory->ledger()}, infos.size());
    RestoreLedger(SaveLedger(totals, infos), listeners, listeners.size(), &inherited_);
  }
  recovery.Finish();
  recovered_ = recovery.counts();
  LogWarn("the process before this one ended without notice; its shards' memories are taken over",
          {{"cells", absl::StrCat(recovered_.cells)},
           {"saved_already", absl::StrCat(recovered_.saved)},
           {"unusable", absl::StrCat(recovered_.unusable)},
           {"crash_samples", absl::StrCat(inherited_.Dropped(DropReason::kCrash).Get())}});
}

absl::Status StateKeeper::Refuse(const absl::Status& status) {
  if (options_.strict) {
    return StateRefusedError(absl::StrCat(file_->path(), ": ", status.message()));
  }
  began_anew_ = true;
  // Another version's may be wanted again, by that version.
  const absl::StatusOr<std::string> aside =
      file_->SetAside(absl::IsUnimplemented(status) ? ".other-version" : ".bad");
  LogFields fields = {{"file", file_->path()}, {"error", std::string(status.message())}};
  if (aside.ok()) fields.emplace_back("kept_as", *aside);
  LogError("the saved state is not read; all counts begin anew", fields);
  return absl::OkStatus();
}

void StateKeeper::Restore(const std::vector<Shard*>& shards, Merger* merger, const RuleBook* book,
                          const SeriesBudget* budget, const std::vector<ListenerInfo>& listeners) {
  std::vector<std::string> names;
  for (const ListenerInfo& listener : listeners) names.push_back(listener.name);
  NameListeners(names, shards);
  HeadReader reader;
  if (has_saved_) DecodeState(saved_, &reader).IgnoreError();  // it has verified before
  const SavedHead& head = reader.head();
  // The cells of the process that saved the state, unless it could still save them itself.
  std::vector<KeptMemories::Left*> left;
  if (has_saved_ && !head.is_final) left = memories_->Of(head.session);
  StateRestorer::Options options;
  options.now_ns = MonotonicNs();
  options.has_cells = !left.empty();
  options.same_clock = has_saved_ ? head.boot_id == boot_id_ && !boot_id_.empty() : true;
  if (has_saved_) {
    StateRestorer restorer(options, shards, merger, book, budget);
    DecodeState(saved_, &restorer).IgnoreError();
    restorer.Finish();
    loaded_ = restorer.counts();
    RestoreLedger(options.has_cells ? head.inherited : head.ledger, names, names.size(),
                  &inherited_);
    LogInfo("the saved state is in force",
            {{"series", absl::StrCat(loaded_.series)},
             {"expired", absl::StrCat(loaded_.expired)},
             {"not_made", absl::StrCat(loaded_.waiting)},
             {"age_s", absl::StrCat(std::max<int64_t>(0, UnixSeconds() - head.unix_s))},
             {"complete", head.is_final ? "yes" : "no"}});
  }
  if (!began_anew_) {
    for (KeptMemories::Left* more : memories_->BegunWith(parent_)) left.push_back(more);
  }
  // A memory does not outlive the machine.
  options.same_clock = true;
  Recover(left, head, options, shards, merger, book, budget, names);
  saved_ = {};
  has_saved_ = false;
}

void StateKeeper::AddMetrics(prometheus::Registry* registry) {
  last_write_ = &prometheus::BuildGauge()
                     .Name("tallyd_state_last_write_timestamp_seconds")
                     .Help("When the state was last saved; 0 if it was not yet.")
                     .Register(*registry)
                     .Add({});
  writes_ = &prometheus::BuildCounter()
                 .Name("tallyd_state_writes_total")
                 .Help("How often the state was saved.")
                 .Register(*registry)
                 .Add({});
  failures_ = &prometheus::BuildCounter()
                   .Name("tallyd_state_write_failures_total")
                   .Help("How often the state could not be saved; the one before is still there.")
                   .Register(*registry)
                   .Add({});
  bytes_ = &prometheus::BuildGauge()
                .Name("tallyd_state_bytes")
                .Help("Size of the state that was last saved.")
                .Register(*registry)
                .Add({});
  encode_seconds_ = &prometheus::BuildGauge()
                         .Name("tallyd_state_encode_seconds")
                         .Help("Time of the merger that the last saving took.")
                         .Register(*registry)
                         .Add({});
  prometheus::BuildGauge()
      .Name("tallyd_state_enabled")
      .Help("1 if the state is kept over restarts, 0 if there is no directory for it.")
      .Register(*registry)
      .Add({})
      .Set(file_ == nullptr ? 0 : 1);
  auto& loaded = prometheus::BuildGauge()
                     .Name("tallyd_state_loaded_series")
                     .Help("Series of the saved state at the start, by what became of them.")
                     .Register(*registry);
  loaded.Add({{"as", "shown"}}).Set(static_cast<double>(loaded_.series));
  loaded.Add({{"as", "expired"}}).Set(static_cast<double>(loaded_.expired));
  loaded.Add({{"as", "not_made"}}).Set(static_cast<double>(loaded_.waiting));
  auto& recovered = prometheus::BuildGauge()
                        .Name("tallyd_state_recovered_cells")
                        .Help(
                            "Cells in the memories that a process left which ended without "
                            "notice, by what became of them.")
                        .Register(*registry);
  recovered.Add({{"as", "taken"}}).Set(static_cast<double>(recovered_.cells));
  recovered.Add({{"as", "saved"}}).Set(static_cast<double>(recovered_.saved));
  recovered.Add({{"as", "unusable"}}).Set(static_cast<double>(recovered_.unusable));
}

void StateKeeper::Start(MergeThread* merger, OwnMetrics* own) {
  merger_ = merger;
  own_ = own;
  AddMetrics(&own->registry());
  if (file_ == nullptr) return;
  // Signals are the main thread's.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { Run(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void StateKeeper::Run() {
  ::pthread_setname_np(::pthread_self(), "state");
  // Of the merger's time a small part, however many series there are.
  constexpr int kMergerShare = 20;
  // At once, so that what was taken over is safe, and a disk that takes nothing is known early.
  Save(false);
  std::unique_lock lock(mu_);
  while (!stopping_) {
    const absl::Duration pause = std::max(options_.interval, kMergerShare * encoding_);
    wake_.wait_for(lock, absl::ToChronoNanoseconds(pause), [this] { return stopping_; });
    if (stopping_) return;
    lock.unlock();
    Save(false);
    lock.lock();
  }
}

void StateKeeper::SaveLast() {
  if (!thread_.joinable()) return;
  Stop();
  Save(true);
}

SavedHead StateKeeper::MakeHead(bool is_final) {
  SavedHead head;
  head.session = session_;
  head.sequence = ++sequence_;
  head.is_final = is_final;
  head.hash_seed = hash_seed_;
  head.boot_id = boot_id_;
  head.unix_s = UnixSeconds();
  head.now_ns = MonotonicNs();
  const std::vector<ListenerInfo> listeners = own_->listeners();
  head.ledger = SaveLedger(own_->totals(), listeners);
  head.inherited = SaveLedger(SumLedgers({&inherited_}, listeners.size()), listeners);
  return head;
}

std::unique_ptr<std::string> StateKeeper::Encode(bool is_final) {
  std::promise<std::unique_ptr<std::string>> promise;
  std::future<std::unique_ptr<std::string>> encoded = promise.get_future();
  merger_->Ask([&](Merger* merger) {
    if (merger == nullptr) return promise.set_value(nullptr);
    const int64_t begin_ns = MonotonicNs();
    auto bytes = std::make_unique<std::string>(merger->SaveState(MakeHead(is_final)));
    encoding_ = absl::Nanoseconds(MonotonicNs() - begin_ns);
    promise.set_value(std::move(bytes));
  });
  return encoded.get();
}

void StateKeeper::Save(bool is_final) {
  const std::unique_ptr<std::string> bytes = Encode(is_final);
  if (bytes == nullptr) return;
  encode_seconds_->Set(absl::ToDoubleSeconds(encoding_));
  const absl::Status status = file_->Write(*bytes);
  // If it cannot be saved, slots are given back nonetheless: else all would be used up in time.
  Release(sequence_);
  if (!status.ok()) return NoteFailure(status);
  // What it has need not be taken over any more.
  memories_->DropLeft();
  if (is_final) memories_->DropOurs();
  if (std::exchange(failing_, false)) LogInfo("the state is saved again");
  writes_->Increment();
  last_write_->SetToCurrentTime();
  bytes_->Set(static_cast<double>(bytes->size()));
}

void StateKeeper::NoteFailure(const absl::Status& status) {
  failures_->Increment();
  // Once; the metric says how often.
  if (std::exchange(failing_, true)) return;
  LogError("the state cannot be saved; the one saved before is kept, and it is tried again",
           {{"error", std::string(status.message())}});
}

}  // namespace tallyd
