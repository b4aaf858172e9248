#include "daemon/shard_set.h"

#include <sched.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace tallyd {
namespace {

// The `index`-th CPU that we may use, counted around.
int UsableCpu(int index) {
  cpu_set_t usable;
  CPU_ZERO(&usable);
  if (::sched_getaffinity(0, sizeof(usable), &usable) != 0 || CPU_COUNT(&usable) == 0) return -1;
  int left = index % CPU_COUNT(&usable);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(static_cast<size_t>(cpu), &usable) && left-- == 0) return cpu;
  }
  return -1;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ShardSet>> ShardSet::Create(const Options& options,
                                                           Rules::Options rules, int shards,
                                                           Memories memories,
                                                           ConnectionCounts* counts) {
  std::unique_ptr<ShardSet> set(new ShardSet());
  auto book = RuleBook::Create(std::move(rules));
  if (!book.ok()) return book.status();
  set->book_ = *std::move(book);
  // A histogram claims four names, and at no time are there more families than series. Names are
  // never given back: one that met more of them than this refuses new ones, and says so.
  set->families_ =
      std::make_unique<FamilyTypes>(size_t{4} * options.series_limit, memories.hash_seed);
  set->budget_ = std::make_unique<SeriesBudget>(options.SeriesLimits(), memories.hash_seed);

  memories.session.shards = static_cast<uint32_t>(shards);
  for (int i = 0; i < shards; ++i) {
    const auto index = static_cast<size_t>(i);
    ShardOptions shard_options;
    shard_options.index = i;
    shard_options.hash_seed = memories.hash_seed;
    shard_options.max_keys = options.KeyLimit();
    shard_options.max_line_bytes = static_cast<uint32_t>(options.max_line_bytes);
    shard_options.tags = options.tags;
    shard_options.session = memories.session;
    shard_options.session.shard = static_cast<uint32_t>(i);
    if (index < memories.files.size()) shard_options.memory_fd = memories.files[index].release();
    auto shard =
        Shard::Create(shard_options, set->book_.get(), set->families_.get(), set->budget_.get());
    if (!shard.ok()) return shard.status();

    ShardThread::Options thread_options;
    thread_options.cpu = options.pin_shards ? UsableCpu(i) : -1;
    thread_options.idle_timeout_ns = absl::ToInt64Nanoseconds(options.idle_timeout);
    auto thread = ShardThread::Create(shard->get(), thread_options, counts);
    if (!thread.ok()) return thread.status();
    set->shards_.push_back(*std::move(shard));
    set->threads_.push_back(*std::move(thread));
  }
  return set;
}

absl::Status ShardSet::Start() {
  for (const auto& thread : threads_) {
    absl::Status status = thread->Start();
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status ShardSet::UseRules(Rules::Options options, std::function<void()> done) {
  const absl::StatusOr<uint16_t> generation = book_->Publish(std::move(options));
  if (!generation.ok()) return generation.status();
  const auto left = std::make_shared<std::atomic<size_t>>(threads_.size());
  for (const auto& thread : threads_) {
    book_->Hold(*generation);
    thread->UseRules(*generation, [left, done] {
      // The last must see what the others did before, hence acquire and release.
      if (left->fetch_sub(1, std::memory_order_acq_rel) == 1) done();
    });
  }
  return absl::OkStatus();
}

void ShardSet::Stop(int connections_kept, std::function<void()> done) {
  running_.store(threads_.size(), std::memory_order_relaxed);
  places_.store(connections_kept, std::memory_order_relaxed);
  std::atomic<int>* const places = connections_kept > 0 ? &places_ : nullptr;
  for (const auto& thread : threads_) {
    // Whoever counts down to zero must see what the others did before, hence acquire and release.
    thread->Stop(places, [this, done] {
      if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) done();
    });
  }
}

void ShardSet::Join() {
  for (const auto& thread : threads_) thread->Join();
}

std::vector<ReleasedConnection> ShardSet::TakeReleased() {
  std::vector<ReleasedConnection> all;
  for (const auto& thread : threads_) {
    for (ReleasedConnection& released : thread->released()) all.push_back(std::move(released));
    thread->released().clear();
  }
  return all;
}

std::vector<Shard*> ShardSet::shards() {
  std::vector<Shard*> shards;
  for (const auto& shard : shards_) shards.push_back(shard.get());
  return shards;
}

std::vector<ShardMemory*> ShardSet::memories() {
  std::vector<ShardMemory*> memories;
  for (const auto& shard : shards_) memories.push_back(&shard->memory());
  return memories;
}

std::vector<const Ledger*> ShardSet::ledgers() const {
  std::vector<const Ledger*> ledgers;
  for (const auto& shard : shards_) {
    ledgers.push_back(&std::as_const(*shard).ledger());
  }
  return ledgers;
}

std::vector<ViolationLog*> ShardSet::violations() {
  std::vector<ViolationLog*> violations;
  for (const auto& shard : shards_) violations.push_back(&shard->violations());
  return violations;
}

std::vector<SenderTable*> ShardSet::senders() {
  std::vector<SenderTable*> senders;
  for (const auto& thread : threads_) senders.push_back(&thread->senders());
  return senders;
}

}  // namespace tallyd
