// Pages as bytes: what the cells hold now, told to an encoder series by series.

#ifndef TALLYD_CORE_MERGE_PAGE_RENDERER_H_
#define TALLYD_CORE_MERGE_PAGE_RENDERER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/merge/cell_reader.h"
#include "core/merge/help_texts.h"
#include "core/merge/page_directory.h"
#include "core/merge/page_encoder.h"
#include "core/merge/series_table.h"
#include "core/merge/snapshot.h"

namespace tallyd {

// Ownership: owns the registration of formats; the rendered bytes are kept in the pages.
// Thread-compatible: the merger thread only; the snapshots it returns may go to any thread.
class PageRenderer {
 public:
  PageRenderer(const SeriesTable* table, const PageDirectory* pages, CellReader* cells,
               const HelpTexts* helps)
      : table_(table), pages_(pages), cells_(cells), helps_(helps) {}

  // See Merger for what is behind these. `taken_at_ns` is the time of the merge that they show.
  int AddVariant(const PageEncoder* encoder);
  std::shared_ptr<const Snapshot> Render(int variant, int64_t taken_at_ns);
  std::shared_ptr<const Snapshot> RenderOnce(const PageEncoder& encoder, int64_t taken_at_ns);
  void ForgetPages(int variant);

 private:
  std::shared_ptr<Snapshot> NewSnapshot(int64_t taken_at_ns);
  void RenderInto(const Page& page, const PageEncoder& encoder, PageFrame* frame, std::string* out);
  void RenderPage(const Page& page, const PageEncoder& encoder, PageFrame* frame, std::string* out);
  void PrefetchAhead(const Page& page, size_t i) const;
  FamilyView ViewOf(const Family& family, const PageEncoder& encoder) const;
  bool CreatedIsTaken(std::string_view name) const;

  void RenderSeries(const PageEncoder& encoder, const FamilyView& family, SeriesId series,
                    const SeriesRecord& record, std::string* out);
  void RenderCounter(const PageEncoder& encoder, const FamilyView& family, std::string_view labels,
                     SeriesId series, const SeriesRecord& record, std::string* out);
  double GaugeOf(SeriesId series) const;
  void RenderHistogram(const PageEncoder& encoder, const FamilyView& family,
                       std::string_view labels, SeriesId series, const SeriesRecord& record,
                       std::string* out);
  void RenderSummary(const PageEncoder& encoder, const FamilyView& family, std::string_view labels,
                     SeriesId series, const SeriesRecord& record, std::string* out);

  const SeriesTable* const table_;
  const PageDirectory* const pages_;
  CellReader* const cells_;
  const HelpTexts* const helps_;
  std::vector<const PageEncoder*> encoders_;
  int64_t taken_at_ns_ = 0;  // of what is being rendered
  std::string scratch_;      // of RenderInto
};

}  // namespace tallyd

#endif  // TALLYD_CORE_MERGE_PAGE_RENDERER_H_
