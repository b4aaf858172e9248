// A batch of series on one connection, and how its culprits are found if the target refuses it.

#ifndef TALLYD_DAEMON_PUSH_WRITE_BATCH_H_
#define TALLYD_DAEMON_PUSH_WRITE_BATCH_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/expose/remote_write.h"
#include "core/expose/write_request.h"

namespace tallyd {

// Sent as one piece at first. A piece that the target refuses is halved, and each half sent, down
// to single series: 2 * log2(n) further requests for a culprit. The bytes of a piece are kept until
// there is a verdict, so that it is repeated exactly. Thread-compatible.
class WriteBatch {
 public:
  // Whoever finds so many culprits in a batch has not met a few bad series: the rest is given up.
  static constexpr int kMaxCulprits = 8;

  // Of records with their headers, at least one.
  WriteBatch(std::string records, int64_t born_ns);
  WriteBatch(const WriteBatch&) = delete;
  WriteBatch& operator=(const WriteBatch&) = delete;

  // Nothing is left to be sent.
  bool done() const { return pieces_.empty(); }
  int64_t born_ns() const { return born_ns_; }

  // The piece in hand. Not of a batch that is done.
  size_t piece_size() const { return pieces_.back().end - pieces_.back().begin; }
  WrittenCounts piece_counts() const;
  const WriteRecord& first_of_piece() const { return records_[pieces_.back().begin]; }
  std::shared_ptr<const std::string> PieceBody(WriteProtocol protocol,
                                               WriteRequestBuilder* builder);
  bool is_whole() const { return piece_size() == records_.size(); }

  // A verdict: the piece is stored, or not wanted.
  void PieceDone();
  // Into halves, the first of which is then in hand. Of a piece of at least two.
  void HalvePiece();
  // All others first; in halves, if it can be halved.
  void PutOffPiece();
  // The piece in hand, of one series, is a culprit.
  void PieceIsCulprit();
  int culprits() const { return culprits_; }
  // Gives up what is left; returns how many series that were.
  size_t GiveUp();

  // 5xx answers in a row to the piece in hand.
  int server_errors = 0;
  // The target answered 5xx to the batch while it took other things: 5xx is then a verdict.
  bool is_suspect = false;
  // How many requests the target had stored when the batch was cut.
  uint64_t successes_at_birth = 0;
  // How many requests the target had stored when the piece in hand was first sent.
  uint64_t successes_before = 0;

 private:
  struct Piece {
    size_t begin = 0;
    size_t end = 0;
  };

  const std::string bytes_;
  std::vector<WriteRecord> records_;  // views of bytes_
  std::vector<Piece> pieces_;         // left; the last is in hand
  std::shared_ptr<const std::string> body_;
  WriteProtocol body_protocol_ = WriteProtocol::k1;
  int64_t born_ns_;
  int culprits_ = 0;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_WRITE_BATCH_H_
