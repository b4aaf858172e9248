#include "core/wire/name_tags.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace tallyd {
namespace {

constexpr TagDialects kAll;
constexpr TagDialects kNone = {
    .dogstatsd = false, .influxdb = false, .librato = false, .signalfx = false};

// What is left of the name, and its tags: "name" or "name{list}"; "!" after it for a lone bracket.
std::string Split(std::string_view name, const TagDialects& dialects = kAll) {
  const SplitName split = SplitNameTags(name, dialects);
  std::string text(split.before);
  text.append(split.after);
  if (split.has_tags) text.append("{").append(split.tags).append("}");
  if (split.lone_bracket) text += "!";
  return text;
}

// Each tag of a list as "key=value", or "bad".
std::vector<std::string> Tags(std::string_view list, char separator = '=') {
  std::vector<std::string> tags;
  ForEachTag(list, [&](std::string_view text) {
    const Tag tag = SplitTag(text, separator);
    tags.push_back(tag.good() ? std::string(tag.key).append("=").append(tag.value) : "bad");
  });
  return tags;
}

using Strings = std::vector<std::string>;

TEST(NameTagsTest, TheFirstHashOrCommaEndsTheName) {
  EXPECT_EQ(Split("a"), "a");
  EXPECT_EQ(Split("a,b=c"), "a{b=c}");
  EXPECT_EQ(Split("a#b=c"), "a{b=c}");
  EXPECT_EQ(Split("a#b=c,d=e"), "a{b=c,d=e}");
  EXPECT_EQ(Split("a,b=c#d=e"), "a{b=c#d=e}");
  EXPECT_EQ(Split("a#b=c#d=e"), "a{b=c#d=e}");
  EXPECT_EQ(Split("a,"), "a{}");
  EXPECT_EQ(Split("#b=c"), "{b=c}");
  EXPECT_EQ(Split(",b=c"), "{b=c}");
  EXPECT_EQ(Split("a.b,c=d.e"), "a.b{c=d.e}");
}

TEST(NameTagsTest, BracketsComeFirst) {
  EXPECT_EQ(Split("a[b=c]"), "a{b=c}");
  EXPECT_EQ(Split("a[b=c].d"), "a.d{b=c}");
  EXPECT_EQ(Split("[b=c]a"), "a{b=c}");
  EXPECT_EQ(Split("[b=c]"), "{b=c}");
  EXPECT_EQ(Split("a[]b"), "ab{}");
  EXPECT_EQ(Split("a,x=y[b=c]#d=e"), "a,x=y#d=e{b=c}") << "the rest is not searched";
  EXPECT_EQ(Split("a[b=c][d=e]"), "a[d=e]{b=c}") << "the first of each bracket counts";
  EXPECT_EQ(Split("a[b=[c]d]e"), "ad]e{b=[c}");
}

TEST(NameTagsTest, ALoneBracketHidesTheOtherDialects) {
  EXPECT_EQ(Split("a[b=c"), "a[b=c!");
  EXPECT_EQ(Split("ab=c]"), "ab=c]!");
  EXPECT_EQ(Split("a]b=c["), "a]b=c[!");
  EXPECT_EQ(Split("a[b,c=d"), "a[b,c=d!");
  EXPECT_EQ(Split("a]b[c#d=e"), "a]b[c#d=e!");
  EXPECT_EQ(Split("]["), "][!");
}

TEST(NameTagsTest, ADialectThatIsOffIsPartOfTheName) {
  TagDialects no_signalfx;
  no_signalfx.signalfx = false;
  EXPECT_EQ(Split("a[b=c]", no_signalfx), "a[b=c]");
  EXPECT_EQ(Split("a[b,c=d]", no_signalfx), "a[b{c=d]}");
  TagDialects no_librato;
  no_librato.librato = false;
  EXPECT_EQ(Split("a#b=c", no_librato), "a#b=c");
  EXPECT_EQ(Split("a#b,c=d", no_librato), "a#b{c=d}");
  TagDialects no_influxdb;
  no_influxdb.influxdb = false;
  EXPECT_EQ(Split("a,b=c", no_influxdb), "a,b=c");
  EXPECT_EQ(Split("a,b#c=d", no_influxdb), "a,b{c=d}");
  EXPECT_EQ(Split("a,b=c#d=e[f=g]", kNone), "a,b=c#d=e[f=g]");
  EXPECT_EQ(Split("a[", kNone), "a[");
}

TEST(NameTagsTest, ATagIsSplitAtItsFirstSeparator) {
  EXPECT_EQ(Tags("a=b"), (Strings{"a=b"}));
  EXPECT_EQ(Tags("a=b=c"), (Strings{"a=b=c"}));
  EXPECT_EQ(SplitTag("a=b=c", '=').key, "a");
  EXPECT_EQ(SplitTag("a=b=c", '=').value, "b=c");
  EXPECT_EQ(SplitTag("a:b:c", ':').value, "b:c");
  EXPECT_EQ(Tags("a = b "), (Strings{"a = b "})) << "blanks are kept";
}

TEST(NameTagsTest, EachUselessTagIsOneBadTag) {
  EXPECT_EQ(Tags("a"), (Strings{"bad"}));
  EXPECT_EQ(Tags("a="), (Strings{"bad"}));
  EXPECT_EQ(Tags("=b"), (Strings{"bad"}));
  EXPECT_EQ(Tags("="), (Strings{"bad"}));
  EXPECT_EQ(Tags("a:b"), (Strings{"bad"}));
  EXPECT_EQ(Tags(""), (Strings{}));
  EXPECT_EQ(Tags("a=b,"), (Strings{"a=b"})) << "a trailing comma is no error";
  EXPECT_EQ(Tags(",a=b"), (Strings{"bad", "a=b"}));
  EXPECT_EQ(Tags("a=b,,c=d"), (Strings{"a=b", "bad", "c=d"}));
  EXPECT_EQ(Tags(","), (Strings{"bad"}));
  EXPECT_EQ(Tags(",,"), (Strings{"bad", "bad"}));
}

TEST(NameTagsTest, AGoodTagIsOneWithKeyAndValue) {
  for (const char* name : {"a,b=c", "a#b=c", "a[b=c]", ",b=c", "a,x,b=c", "a[,b=c]d"}) {
    EXPECT_TRUE(HasGoodNameTag(name, kAll)) << name;
    EXPECT_FALSE(HasGoodNameTag(name, kNone)) << name;
  }
  for (const char* name : {"a", "a,", "a,b", "a,b=", "a,=c", "a[]", "a[b", "a]b=c[", "a=b", ""}) {
    EXPECT_FALSE(HasGoodNameTag(name, kAll)) << name;
  }
}

}  // namespace
}  // namespace tallyd
