#include "daemon/push_target_reader.h"

namespace tallyd {

bool PushTargetReader::ReadUrl(const FlagValue& leaf, HttpUrl* url) {
  has_url_ = true;
  absl::StatusOr<HttpUrl> read = HttpUrl::Parse(leaf.text);
  if (read.ok()) {
    *url = *std::move(read);
    return true;
  }
  // The URL itself may hold a password that does not belong into messages.
  Complain(leaf, read.status().message());
  return false;
}

bool PushTargetReader::ReadAccess(const std::string& name, const FlagValue& leaf,
                                  PushCredentials* credentials, TlsOptions* tls) {
  if (name == "tls.insecure_skip_verify") {
    ReadBool(leaf, &tls->insecure_skip_verify);
    return true;
  }
  return ReadPushAccess(name, leaf.text, credentials, tls);
}

void PushTargetReader::ReadFamilies(const std::string& list, const FlagValue& leaf,
                                    FamilyFilter* families) {
  if (list != "include" && list != "exclude") {
    return Complain(leaf, "unknown key; families have include and exclude");
  }
  if (leaf.text.empty()) return Complain(leaf, "an empty pattern matches no family");
  (list == "include" ? families->include : families->exclude).push_back(leaf.text);
}

void PushTargetReader::ReadDuration(const FlagValue& leaf, absl::Duration least,
                                    absl::Duration most, absl::Duration* duration) {
  absl::Duration read;
  if (absl::ParseDuration(leaf.text, &read) && read >= least && read <= most) {
    *duration = read;
  } else {
    Complain(leaf, absl::StrCat("not a duration from ", absl::FormatDuration(least), " to ",
                                absl::FormatDuration(most), " (write 15s, 1m30s)"));
  }
}

void PushTargetReader::CheckAccess(const HttpUrl& url, const PushCredentials& credentials,
                                   const TlsOptions& tls) {
  if (!has_url_) return ComplainOfTarget("has no url");
  const std::string problem = CheckPushAccess(url, credentials, tls);
  if (!problem.empty()) ComplainOfTarget(problem);
}

}  // namespace tallyd
