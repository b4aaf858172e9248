#include "core/merge/page_renderer.h"

#include <algorithm>
#include <utility>

#include "core/merge/family_names.h"

namespace tallyd {
namespace {

constexpr size_t kContinues = SIZE_MAX;  // a family that began on a page before

// Memory of pages that no snapshot holds any more is used again: touching fresh memory costs as
// much as rendering into it.
void MakeRoomFor(std::shared_ptr<std::string>* rendered) {
  if (*rendered != nullptr && rendered->use_count() == 1) {
    // Counting up orders this thread after the one that counted down last, and after its reads.
    const std::shared_ptr<std::string> acquired = *rendered;
    acquired->clear();
    return;
  }
  const size_t size_before = *rendered == nullptr ? 0 : (*rendered)->size();
  *rendered = std::make_shared<std::string>();
  (*rendered)->reserve(size_before + size_before / 8);
}

// Of the family that a page continues, the bytes on it and on those after it.
uint64_t BytesBefore(const PageFrame& frame, uint64_t elsewhere) {
  return frame.continued + (frame.passes ? elsewhere : 0);
}

// The last series of a family on this page, or on any, has been written.
void EndRun(const PageEncoder& encoder, size_t begin, uint64_t elsewhere, PageFrame* frame,
            std::string* out) {
  if (begin == kContinues) {
    frame->continued = out->size();
  } else {
    encoder.EndFamily(begin, elsewhere, out);
  }
}

}  // namespace

int PageRenderer::AddVariant(const PageEncoder* encoder) {
  encoders_.push_back(encoder);
  return static_cast<int>(encoders_.size()) - 1;
}

std::shared_ptr<Snapshot> PageRenderer::NewSnapshot(int64_t taken_at_ns) {
  taken_at_ns_ = taken_at_ns;
  auto snapshot = std::make_shared<Snapshot>();
  snapshot->taken_at_ns = taken_at_ns;
  snapshot->series = table_->series();
  return snapshot;
}

std::shared_ptr<const Snapshot> PageRenderer::Render(int variant, int64_t taken_at_ns) {
  const std::shared_ptr<Snapshot> snapshot = NewSnapshot(taken_at_ns);
  const auto bit = static_cast<uint8_t>(1u << variant);
  const PageEncoder& encoder = *encoders_[static_cast<size_t>(variant)];
  for (size_t i = 0; i < Snapshot::kSections; ++i) {
    const std::vector<Page*>& pages = pages_->section(i);
    snapshot->sections[i].resize(pages.size());
    uint64_t elsewhere = 0;
    for (size_t n = pages.size(); n-- > 0;) {  // the later ones first: see PageFrame
      Page* const page = pages[n];
      std::shared_ptr<std::string>& rendered = page->rendered[static_cast<size_t>(variant)];
      PageFrame& frame = page->frames[static_cast<size_t>(variant)];
      const bool framed_otherwise = !frame.passes && frame.elsewhere != elsewhere;
      if ((page->current & bit) == 0 || rendered == nullptr || framed_otherwise) {
        MakeRoomFor(&rendered);
        frame.elsewhere = elsewhere;
        RenderInto(*page, encoder, &frame, rendered.get());
        page->current |= bit;
      }
      elsewhere = BytesBefore(frame, elsewhere);
      snapshot->bytes += rendered->size();
      snapshot->sections[i][n] = rendered;
    }
  }
  return snapshot;
}

std::shared_ptr<const Snapshot> PageRenderer::RenderOnce(const PageEncoder& encoder,
                                                         int64_t taken_at_ns) {
  const std::shared_ptr<Snapshot> snapshot = NewSnapshot(taken_at_ns);
  for (size_t i = 0; i < Snapshot::kSections; ++i) {
    const std::vector<Page*>& pages = pages_->section(i);
    std::vector<PageBuffer>& section = snapshot->sections[i];
    PageFrame frame;
    for (size_t n = pages.size(); n-- > 0;) {  // the later ones first: see PageFrame
      auto rendered = std::make_shared<std::string>();
      RenderInto(*pages[n], encoder, &frame, rendered.get());
      frame = {.elsewhere = BytesBefore(frame, frame.elsewhere)};
      snapshot->bytes += rendered->size();
      if (!rendered->empty()) section.push_back(std::move(rendered));
    }
    std::reverse(section.begin(), section.end());
  }
  return snapshot;
}

void PageRenderer::ForgetPages(int variant) {
  for (size_t i = 0; i < Snapshot::kSections; ++i) {
    for (Page* page : pages_->section(i)) page->rendered[static_cast<size_t>(variant)].reset();
  }
}

// A compressed page is made aside, so that what is kept has no room for the text.
void PageRenderer::RenderInto(const Page& page, const PageEncoder& encoder, PageFrame* frame,
                              std::string* out) {
  if (!encoder.compresses()) return RenderPage(page, encoder, frame, out);
  scratch_.clear();
  RenderPage(page, encoder, frame, &scratch_);
  out->assign(scratch_);
}

// `frame` says what the last family of the page has elsewhere, and is told the rest.
void PageRenderer::RenderPage(const Page& page, const PageEncoder& encoder, PageFrame* frame,
                              std::string* out) {
  const bool frames = encoder.frames_families();
  FamilyId current = kNoId;
  FamilyView family;
  size_t begin = kContinues;  // where the current family begins
  frame->continued = 0;
  frame->passes = frames;
  for (size_t i = 0; i < page.series.size(); ++i) {
    PrefetchAhead(page, i);
    const SeriesId series = page.series[i];
    const SeriesRecord& record = table_->record(series);
    if (record.family != current) {
      if (frames && current != kNoId) EndRun(encoder, begin, 0, frame, out);
      current = record.family;
      family = ViewOf(table_->family(current), encoder);
      begin = kContinues;
      if (table_->family(current).first == series) {
        begin = out->size();
        frame->passes = false;
        encoder.Family(family, out);
      }
    }
    RenderSeries(encoder, family, series, record, out);
  }
  if (frames) EndRun(encoder, begin, frame->elsewhere, frame, out);
  encoder.Finish(out);
}

// Series of one page lie anywhere in memory; their loads overlap if asked for in time.
void PageRenderer::PrefetchAhead(const Page& page, size_t i) const {
  constexpr size_t kRecordAhead = 16;
  constexpr size_t kCellAhead = 8;
  if (i + kRecordAhead < page.series.size()) {
    __builtin_prefetch(&table_->record(page.series[i + kRecordAhead]));
  }
  if (i + kCellAhead < page.series.size()) {
    const SeriesRecord& record = table_->record(page.series[i + kCellAhead]);
    __builtin_prefetch(table_->labels_at(record));
    __builtin_prefetch(table_->labels_at(record) + 64);
    cells_->PrefetchCell(record);
  }
}

FamilyView PageRenderer::ViewOf(const Family& family, const PageEncoder& encoder) const {
  const std::string_view stem = StemBefore(family.name, kTotalSuffix);
  return {.name = family.name,
          .help = (*helps_)[family.help],
          .type = TypeOf(family.kind),
          .stem_is_taken = !stem.empty() && table_->FindFamily(stem) != kNoId,
          .created_is_taken = encoder.adds_created_series() && CreatedIsTaken(family.name)};
}

bool PageRenderer::CreatedIsTaken(std::string_view name) const {
  const std::string_view stem = StemBefore(name, kTotalSuffix);
  return table_->FindFamily(std::string(stem.empty() ? name : stem).append(kCreatedSuffix)) !=
         kNoId;
}

void PageRenderer::RenderSeries(const PageEncoder& encoder, const FamilyView& family,
                                SeriesId series, const SeriesRecord& record, std::string* out) {
  const std::string_view labels = table_->labels(record);
  switch (table_->family(record.family).kind) {
    case SeriesKind::kCounter:
      return RenderCounter(encoder, family, labels, series, record, out);
    case SeriesKind::kGauge:
      return encoder.Gauge(family, labels, GaugeOf(series), out);
    case SeriesKind::kSet:
      return encoder.Gauge(family, labels, cells_->SetSize(series, taken_at_ns_), out);
    case SeriesKind::kHistogram:
      return RenderHistogram(encoder, family, labels, series, record, out);
    case SeriesKind::kSummary:
      return RenderSummary(encoder, family, labels, series, record, out);
  }
}

void PageRenderer::RenderCounter(const PageEncoder& encoder, const FamilyView& family,
                                 std::string_view labels, SeriesId series,
                                 const SeriesRecord& record, std::string* out) {
  CounterValue value = cells_->Counter(series);
  value.created_s = record.created_s;
  encoder.Counter(family, labels, value, out);
}

// Where a non-negative gauge is made of several cells, none of them stops at 0.
double PageRenderer::GaugeOf(SeriesId series) const {
  const double value = cells_->Gauge(series);
  return table_->family_of(series).non_negative && value < 0 ? 0 : value;
}

// One whose native form cannot be had is left out this once: to a scraper a gap is less than a
// histogram that goes down, which it takes for a restart.
void PageRenderer::RenderHistogram(const PageEncoder& encoder, const FamilyView& family,
                                   std::string_view labels, SeriesId series,
                                   const SeriesRecord& record, std::string* out) {
  const bool native = encoder.wants_native_histograms();
  HistogramValue value = cells_->Histogram(series, native);
  if (native && value.native == nullptr) return;
  value.created_s = record.created_s;
  encoder.Histogram(family, labels, value, out);
}

void PageRenderer::RenderSummary(const PageEncoder& encoder, const FamilyView& family,
                                 std::string_view labels, SeriesId series,
                                 const SeriesRecord& record, std::string* out) {
  SummaryValue value = cells_->Summary(series);
  value.created_s = record.created_s;
  encoder.Summary(family, labels, value, out);
}

}  // namespace tallyd
