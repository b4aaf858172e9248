#include "daemon/push/write_batch.h"

#include <algorithm>
#include <span>
#include <utility>

namespace tallyd {

WriteBatch::WriteBatch(std::string records, int64_t born_ns)
    : bytes_(std::move(records)), born_ns_(born_ns) {
  WriteRecord record;
  for (WriteRecordReader reader(bytes_); reader.Next(&record);) records_.push_back(record);
  pieces_.push_back({0, records_.size()});
}

WrittenCounts WriteBatch::piece_counts() const {
  const Piece& piece = pieces_.back();
  return CountsOf(std::span(records_).subspan(piece.begin, piece.end - piece.begin));
}

std::shared_ptr<const std::string> WriteBatch::PieceBody(WriteProtocol protocol,
                                                         WriteRequestBuilder* builder) {
  if (body_ == nullptr || body_protocol_ != protocol) {
    const Piece& piece = pieces_.back();
    const auto records = std::span(records_).subspan(piece.begin, piece.end - piece.begin);
    body_ = std::make_shared<const std::string>(builder->Build(protocol, records));
    body_protocol_ = protocol;
  }
  return body_;
}

void WriteBatch::PieceDone() {
  pieces_.pop_back();
  body_.reset();
  server_errors = 0;
}

void WriteBatch::HalvePiece() {
  const Piece piece = pieces_.back();
  const size_t middle = piece.begin + (piece.end - piece.begin) / 2;
  PieceDone();
  pieces_.push_back({middle, piece.end});
  pieces_.push_back({piece.begin, middle});
}

void WriteBatch::PutOffPiece() {
  const bool halves = piece_size() > 1;
  if (halves) HalvePiece();
  std::rotate(pieces_.begin(), pieces_.end() - (halves ? 2 : 1), pieces_.end());
  body_.reset();
}

void WriteBatch::PieceIsCulprit() {
  ++culprits_;
  PieceDone();
}

size_t WriteBatch::GiveUp() {
  size_t left = 0;
  for (const Piece& piece : pieces_) left += piece.end - piece.begin;
  pieces_.clear();
  body_.reset();
  return left;
}

}  // namespace tallyd
