#include "tests/model/explorer.h"

#include <algorithm>
#include <array>
#include <map>
#include <stdexcept>

#include "absl/cleanup/cleanup.h"
#include "absl/container/flat_hash_map.h"

namespace tallyd::model {
namespace {

using Kind = Op::Kind;
constexpr uint32_t kNone = ~uint32_t{0};

World* current_world = nullptr;

// Thrown through a thread's body to leave it at the operation that it is about to do.
struct Unwind {};

// Every local state that one thread can be in. A node is what the thread remembered when its turn
// began and the values it has read since; nodes are never changed once grown, except for edges.
class ThreadTree {
 public:
  struct Node {
    uint32_t parent = kNone;
    uint64_t read = 0;     // the value that led here from the parent
    std::string memory{};  // at the beginning of the turn; only in its first node
    Op next{};             // what the thread does next
    std::string violation{};
    std::vector<uint64_t> observed{};
    std::map<uint64_t, uint32_t> children{};  // by the value read
  };

  explicit ThreadTree(const World::Thread& thread) : turn_(thread.turn) { Begin(thread.memory); }

  const Node& operator[](uint32_t node) const { return nodes_[node]; }

  // The local state after `node`'s operation has read `value`.
  uint32_t After(uint32_t node, uint64_t value) {
    const auto child = nodes_[node].children.find(value);
    if (child != nodes_[node].children.end()) return child->second;
    const uint32_t grown = Grow({.parent = node, .read = value});
    nodes_[node].children.emplace(value, grown);
    return grown;
  }

  // The thread that is being run, if any.
  static ThreadTree& Running() {
    if (running_ == nullptr) throw std::logic_error("only threads may touch shared memory");
    return *running_;
  }

  uint64_t Perform(const Op& op) {
    if (replayed_ + 1 == path_.size()) {
      nodes_.back().next = op;
      throw Unwind();
    }
    if (!(nodes_[path_[replayed_]].next == op)) {
      throw std::logic_error("a thread did something else on reading the same values");
    }
    return nodes_[path_[++replayed_]].read;
  }

  void Fail(const std::string& property) {
    nodes_.back().violation = property;
    throw Unwind();
  }

  void Observe(uint64_t value) { nodes_.back().observed.push_back(value); }

 private:
  // The first node of a turn that begins with `memory`.
  uint32_t Begin(const std::string& memory) {
    const auto known = turns_.find(memory);
    if (known != turns_.end()) return known->second;
    turns_.emplace(memory, static_cast<uint32_t>(nodes_.size()));
    return Grow({.memory = memory});
  }

  // Adds `node` and runs the thread up to what it does next. If its turn ends instead, the local
  // state is not a new one but the beginning of the next turn.
  uint32_t Grow(const Node& node) {
    const uint32_t grown = static_cast<uint32_t>(nodes_.size());
    nodes_.push_back(node);
    path_.clear();
    for (uint32_t n = grown; n != kNone; n = nodes_[n].parent) path_.push_back(n);
    std::reverse(path_.begin(), path_.end());
    std::string memory = nodes_[path_.front()].memory;
    if (!Run(memory)) return grown;
    if (node.parent == kNone || !nodes_.back().observed.empty()) {
      throw std::logic_error("a turn touched nothing, or observed something and went on");
    }
    nodes_.pop_back();
    return Begin(memory);
  }

  // True if the turn came to its end and another follows.
  bool Run(std::string& memory) {
    replayed_ = 0;
    running_ = this;
    const absl::Cleanup stop = [] { running_ = nullptr; };
    try {
      return turn_(memory);
    } catch (const Unwind&) {
      return false;
    }
  }

  static ThreadTree* running_;
  std::function<bool(std::string&)> turn_;
  std::vector<Node> nodes_;
  std::map<std::string, uint32_t> turns_;  // first nodes by memory
  std::vector<uint32_t> path_;             // from the turn's first node to the one being grown
  size_t replayed_ = 0;                    // how many edges of the path the run has gone along
};

ThreadTree* ThreadTree::running_ = nullptr;

// A set that numbers its members: equal values have equal numbers.
template <class T>
class Interner {
 public:
  // The number of `value`, and whether it is new.
  std::pair<uint32_t, bool> Add(const T& value) {
    const auto [it, is_new] = ids_.try_emplace(value, static_cast<uint32_t>(values_.size()));
    if (is_new) values_.push_back(value);
    return {it->second, is_new};
  }
  uint32_t Id(const T& value) { return Add(value).first; }
  const T& operator[](uint32_t id) const { return values_[id]; }
  size_t size() const { return values_.size(); }

 private:
  absl::flat_hash_map<T, uint32_t> ids_;
  std::vector<T> values_;
};

// What happened before, as far as somebody knows: the newest message of each location, and how many
// plain reads of each location each thread has done.
struct View {
  std::array<uint8_t, kMaxLocations> newest{};
  std::array<std::array<uint8_t, kMaxThreads>, kMaxLocations> plain_reads{};

  void Merge(const View& other) {
    for (size_t i = 0; i < newest.size(); ++i) {
      newest[i] = std::max(newest[i], other.newest[i]);
      for (size_t t = 0; t < kMaxThreads; ++t) {
        plain_reads[i][t] = std::max(plain_reads[i][t], other.plain_reads[i][t]);
      }
    }
  }
  friend bool operator==(const View&, const View&) = default;
  template <class H>
  friend H AbslHashValue(H h, const View& view) {
    return H::combine(std::move(h), view.newest, view.plain_reads);
  }
};

// One store, and by `older` all those before it to the same location.
struct Message {
  uint32_t older = kNone;
  uint32_t timestamp = 0;
  uint64_t value = 0;
  uint32_t view = 0;

  friend bool operator==(const Message&, const Message&) = default;
  template <class H>
  friend H AbslHashValue(H h, const Message& m) {
    return H::combine(std::move(h), m.older, m.timestamp, m.value, m.view);
  }
};

struct ThreadState {
  uint32_t node = 0;
  uint32_t current = 0;   // view: what this thread has seen
  uint32_t acquired = 0;  // view: what its next acquire fence would make it see
  uint32_t released = 0;  // view: what its relaxed stores carry since its last release fence

  friend bool operator==(const ThreadState&, const ThreadState&) = default;
  template <class H>
  friend H AbslHashValue(H h, const ThreadState& t) {
    return H::combine(std::move(h), t.node, t.current, t.acquired, t.released);
  }
};

struct State {
  std::array<ThreadState, kMaxThreads> threads{};
  std::array<uint32_t, kMaxLocations> newest{};  // the last message of each location

  friend bool operator==(const State&, const State&) = default;
  template <class H>
  friend H AbslHashValue(H h, const State& state) {
    return H::combine(std::move(h), state.threads, state.newest);
  }
};

bool IsAcquire(std::memory_order order) { return order == std::memory_order_acquire; }
bool IsRelease(std::memory_order order) { return order == std::memory_order_release; }

void RefuseUnknownOrder(const Op& op) {
  const bool known = op.order == std::memory_order_relaxed ||
                     (IsAcquire(op.order) && (op.kind == Kind::kLoad || op.kind == Kind::kFence)) ||
                     (IsRelease(op.order) && (op.kind == Kind::kStore || op.kind == Kind::kFence));
  if (!known) throw std::logic_error("the model does not know this memory order");
}

class Explorer {
 public:
  Explorer(const std::vector<World::Location>& locations, const std::vector<World::Thread>& threads)
      : locations_(locations), threads_(threads), writers_(locations.size(), kNone) {
    for (const World::Thread& thread : threads) trees_.emplace_back(thread);
  }

  Result Run() {
    AddInitialState();
    // States are numbered as they are found, so counting through them is a breadth-first search.
    for (uint32_t id = 0; id < states_.size() && result_.violation.empty(); ++id) {
      if (states_.size() > kMaxStates) throw std::length_error("too many states");
      bool ended = true;
      for (uint32_t t = 0; t < threads_.size(); ++t) ended &= !Step(id, t);
      if (ended) RecordOutcome(states_[id]);
    }
    result_.states = states_.size();
    return result_;
  }

 private:
  // How a state was first reached.
  struct Edge {
    uint32_t from = kNone;
    uint32_t thread = 0;
    uint32_t timestamp = 0;  // of the message that a load read
  };

  const ThreadTree::Node& NodeOf(const State& state, uint32_t t) const {
    return trees_[t][state.threads[t].node];
  }
  const Op& NextOf(const State& state, uint32_t t) const { return NodeOf(state, t).next; }

  void AddInitialState() {
    State state;
    views_.Id(View());
    for (size_t i = 0; i < locations_.size(); ++i) {
      state.newest[i] = messages_.Id({.value = locations_[i].initial});
    }
    for (uint32_t t = 0; t < threads_.size(); ++t) Settle(state, t);
    Arrive(state, Edge());
  }

  // Takes every step that thread `t` can take from state `id`. False if it has ended.
  bool Step(uint32_t id, uint32_t t) {
    const State from = states_[id];
    const Op op = NextOf(from, t);
    if (op.kind == Kind::kEnd) return false;
    uint32_t timestamp = TimestampOf(from, op.location);
    // Only a load has a choice: any message from the newest down to the oldest that its view
    // allows.
    const uint32_t oldest =
        op.kind == Kind::kLoad ? views_[from.threads[t].current].newest[op.location] : timestamp;
    for (uint32_t message = from.newest[op.location];; message = messages_[message].older) {
      State to = from;
      Apply(to, t, op, message);
      Settle(to, t);
      Arrive(to, {id, t, timestamp});
      if (timestamp-- == oldest) return true;
    }
  }

  // Takes the steps of thread `t` that no other thread can notice or influence (fences, and loads
  // of words that it writes itself): they commute with everything, so one order of them is enough.
  void Settle(State& state, uint32_t t) {
    for (;;) {
      const Op op = NextOf(state, t);
      const bool own_load = op.kind == Kind::kLoad && writers_[op.location] == t;
      if (op.kind != Kind::kFence && !own_load) return;
      Apply(state, t, op, state.newest[op.location]);
    }
  }

  void Apply(State& state, uint32_t t, const Op& op, uint32_t message) {
    RefuseUnknownOrder(op);
    uint64_t read = 0;
    switch (op.kind) {
      case Kind::kEnd:
        return;
      case Kind::kLoad:
        Load(state.threads[t], op, messages_[message]);
        read = messages_[message].value;
        break;
      case Kind::kStore:
        Store(state, t, op);
        break;
      case Kind::kFence:
        Fence(state.threads[t], op);
        break;
      case Kind::kPlainRead:
        PlainRead(state, t, op);
        read = messages_[message].value;
        break;
      case Kind::kPlainWrite:
        PlainWrite(state, t, op);
        break;
    }
    state.threads[t].node = trees_[t].After(state.threads[t].node, read);
  }

  void Load(ThreadState& thread, const Op& op, const Message& message) {
    View current = views_[thread.current];
    uint8_t& newest = current.newest[op.location];
    newest = std::max(newest, static_cast<uint8_t>(message.timestamp));
    if (IsAcquire(op.order)) current.Merge(views_[message.view]);
    View acquired = views_[thread.acquired];
    acquired.Merge(current);
    acquired.Merge(views_[message.view]);
    thread.current = views_.Id(current);
    thread.acquired = views_.Id(acquired);
  }

  void Store(State& state, uint32_t t, const Op& op) {
    const View& current = Append(state, t, op);
    View carried = IsRelease(op.order) ? current : views_[state.threads[t].released];
    carried.newest[op.location] = current.newest[op.location];
    AppendMessage(state, op, views_.Id(carried));
  }

  void Fence(ThreadState& thread, const Op& op) {
    if (IsRelease(op.order)) thread.released = thread.current;
    if (!IsAcquire(op.order)) return;
    View current = views_[thread.current];
    current.Merge(views_[thread.acquired]);
    thread.current = views_.Id(current);
  }

  void PlainRead(State& state, uint32_t t, const Op& op) {
    View current = views_[state.threads[t].current];
    if (current.newest[op.location] != TimestampOf(state, op.location)) {
      race_ = "race: " + threads_[writers_[op.location]].name + "'s write of " +
              locations_[op.location].name + " and " + threads_[t].name + "'s read";
    }
    ++current.plain_reads[op.location][t];
    state.threads[t].current = views_.Id(current);
  }

  void PlainWrite(State& state, uint32_t t, const Op& op) {
    const View& current = Append(state, t, op);
    for (uint32_t reader = 0; reader < threads_.size(); ++reader) {
      // A reader knows all of its own reads.
      const View& its = views_[state.threads[reader].current];
      if (its.plain_reads[op.location][reader] > current.plain_reads[op.location][reader]) {
        race_ = "race: " + threads_[reader].name + "'s read of " + locations_[op.location].name +
                " and " + threads_[t].name + "'s write";
      }
    }
    AppendMessage(state, op, 0);
  }

  // The writer's side of a store: its view moves on to the message that is about to be appended.
  const View& Append(State& state, uint32_t t, const Op& op) {
    if (writers_[op.location] == kNone) writers_[op.location] = t;
    if (writers_[op.location] != t) throw std::logic_error("a word has two writers");
    View current = views_[state.threads[t].current];
    current.newest[op.location] = static_cast<uint8_t>(TimestampOf(state, op.location) + 1);
    state.threads[t].current = views_.Id(current);
    return views_[state.threads[t].current];
  }

  void AppendMessage(State& state, const Op& op, uint32_t view) {
    uint32_t& newest = state.newest[op.location];
    if (messages_[newest].timestamp == UINT8_MAX) throw std::length_error("too many stores");
    newest = messages_.Id({newest, messages_[newest].timestamp + 1, op.value, view});
  }

  uint32_t TimestampOf(const State& state, uint32_t location) const {
    return messages_[state.newest[location]].timestamp;
  }

  void Arrive(const State& state, const Edge& edge) {
    const auto [id, is_new] = states_.Add(state);
    if (is_new) edges_.push_back(edge);
    std::string violation = std::exchange(race_, {});
    for (uint32_t t = 0; t < threads_.size() && violation.empty(); ++t) {
      violation = NodeOf(state, t).violation;
    }
    if (violation.empty() || !result_.violation.empty()) return;
    result_.violation = violation;
    result_.trace = TraceTo(edge);
  }

  void RecordOutcome(const State& state) {
    std::vector<uint64_t> outcome;
    for (uint32_t t = 0; t < threads_.size(); ++t) {
      const std::vector<uint64_t>& observed = NodeOf(state, t).observed;
      outcome.insert(outcome.end(), observed.begin(), observed.end());
    }
    result_.outcomes.insert(outcome);
  }

  std::string TraceTo(Edge edge) const {
    std::string trace;
    for (; edge.from != kNone; edge = edges_[edge.from]) trace = Describe(edge) + trace;
    return trace;
  }

  // Fences and loads of a thread's own words are left out: see Settle.
  std::string Describe(const Edge& edge) const {
    const State& from = states_[edge.from];
    const Op& op = NextOf(from, edge.thread);
    const std::string subject =
        "  " + threads_[edge.thread].name + ": " + locations_[op.location].name;
    if (op.kind == Kind::kStore || op.kind == Kind::kPlainWrite) {
      return subject + " = " + std::to_string(op.value) + "\n";
    }
    uint32_t message = from.newest[op.location];
    while (messages_[message].timestamp != edge.timestamp) message = messages_[message].older;
    return subject + " reads " + std::to_string(messages_[message].value) + " (" +
           std::to_string(TimestampOf(from, op.location) - edge.timestamp) + " behind)\n";
  }

  const std::vector<World::Location>& locations_;
  const std::vector<World::Thread>& threads_;
  std::vector<uint32_t> writers_;  // by location, known from its first store on
  std::vector<ThreadTree> trees_;
  Interner<View> views_;
  Interner<Message> messages_;
  Interner<State> states_;
  std::vector<Edge> edges_;  // by state
  std::string race_;         // found by the step that is being taken
  Result result_;
};

}  // namespace

World::World() { current_world = this; }

World::~World() { current_world = nullptr; }

World& World::Current() {
  if (current_world == nullptr) throw std::logic_error("a word needs a World to live in");
  return *current_world;
}

uint32_t World::AddLocation(const void* where, uint64_t initial) {
  if (locations_.size() == kMaxLocations) throw std::length_error("too many locations");
  const uint32_t location = static_cast<uint32_t>(locations_.size());
  locations_.push_back({where, initial, "word " + std::to_string(location)});
  return location;
}

void World::NameRange(const void* begin, size_t size, const std::string& name) {
  const auto first = reinterpret_cast<uintptr_t>(begin);
  for (Location& location : locations_) {
    if (reinterpret_cast<uintptr_t>(location.where) - first < size) location.name = name;
  }
}

Result World::Explore() const {
  if (threads_.size() > kMaxThreads) throw std::length_error("too many threads");
  return Explorer(locations_, threads_).Run();
}

uint64_t Perform(const Op& op) { return ThreadTree::Running().Perform(op); }

void Check(bool holds, const std::string& property) {
  if (!holds) ThreadTree::Running().Fail(property);
}

void Observe(uint64_t value) { ThreadTree::Running().Observe(value); }

}  // namespace tallyd::model
