// SPDX-License-Identifier: MIT
// Messages, variables, files. pool.cc has its own file because ThreadSanitizer runs it alone.
#include "userspace/base/base.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <cmath>
#include <thread>

namespace ingot {
namespace {
using testing::HasSubstr;

template <class F>
std::string error_of(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}
std::string temporary(std::string_view name) { return str(testing::TempDir(), "ingot_base_", getpid(), "_", name); }

TEST(str, concatenates_what_append_knows) {
  EXPECT_EQ(str("shape ", std::vector<i64>{2, 3}, " has ", 6, ' ', true, " ", i8(-5), " ", u8(200)),
            "shape (2, 3) has 6 true -5 200");
  EXPECT_EQ(str(0.1, " ", 0.1f, " ", 1e300, " ", -0.0), "0.1 0.1 1e+300 -0");
  EXPECT_EQ(str(std::string("a"), std::string_view("b"), "c"), "abc");
}
TEST(str, shortest_floats_read_back) {
  for (u32 bits = 1; bits < 0xff000000; bits += 0x10001) {
    float v = std::bit_cast<float>(bits);
    if (!std::isfinite(v)) continue;
    std::string text = str(v);
    float back = 0;
    std::from_chars(text.data(), text.data() + text.size(), back);
    ASSERT_EQ(std::bit_cast<u32>(back), bits) << text;
  }
}
TEST(str, hex_json_split) {
  EXPECT_EQ(hex(0x1f), "0x1f");
  EXPECT_EQ(hex(0x1f, 4), "0x001f");
  EXPECT_EQ(hex(~u64(0)), "0xffffffffffffffff");
  EXPECT_EQ(quote_json("a\"b\\c\n\x01"), "\"a\\\"b\\\\c\\n\\u0001\"");
  EXPECT_EQ(split("a::b", ':'), (std::vector<std::string_view>{"a", "", "b"}));
  EXPECT_EQ(split("", ':'), (std::vector<std::string_view>{""}));
}
TEST(str, closest_finds_typos_and_nothing_far) {
  std::string_view known[] = {"DEBUG", "DEV", "THREADS", "CACHE"};
  EXPECT_EQ(closest("DEBGU", known), "DEBUG");
  EXPECT_EQ(closest("threads", known), "THREADS");
  EXPECT_EQ(closest("CACH", known), "CACHE");
  EXPECT_EQ(closest("ELEPHANT", known), "");
}
TEST(str, hash_is_a_fixed_function_of_every_byte) {
  // Part of the kernel cache's format: a change of these values needs a new format version. They come from the
  // definition in str.cc written again in Python with integers of any size.
  EXPECT_EQ(hash_bytes("", 0), 0xd79b09574bb4eca3ull);
  EXPECT_EQ(hash_bytes("ingot", 5), 0xa62d737f11409f8cull);
  EXPECT_EQ(hash_bytes("0123456789abcdef!", 17, 7), 0x1799c6f89fd5d329ull);
  std::string text(100, 'x');
  u64 plain = hash_bytes(text.data(), text.size());
  for (size_t i = 0; i < text.size(); i++) {
    text[i] ^= 1;
    EXPECT_NE(hash_bytes(text.data(), text.size()), plain) << i;
    text[i] ^= 1;
    EXPECT_NE(hash_bytes(text.data(), i), plain);
  }
}

TEST(error, keeps_what_happened) {
  OsError e("cannot open x", ENOENT);
  EXPECT_EQ(e.number, ENOENT);
  EXPECT_STREQ(e.what(), "cannot open x: No such file or directory");
  EXPECT_EQ(DeviceError("hang", "GRBM_STATUS = 0").state, "GRBM_STATUS = 0");
  EXPECT_THAT(error_of([] { check(1 + 1 == 3, "values ", 2, " ", 3); }), HasSubstr("not 1 + 1 == 3: values 2 3"));
}

TEST(context, sets_by_name_and_scopes) {
  Context before = ctx;
  ctx.set("DEBUG", "3");
  EXPECT_EQ(ctx.DEBUG, 3);
  {
    Scoped s(ctx.DEBUG, 1);
    Scoped t(ctx.DEV, std::string("REF"));
    EXPECT_EQ(ctx.DEBUG, 1);
    EXPECT_EQ(ctx.DEV, "REF");
  }
  EXPECT_EQ(ctx.DEBUG, 3);
  EXPECT_EQ(ctx.DEV, before.DEV);
  ctx = before;
}
TEST(context, refuses_and_says_what_is_accepted) {
  EXPECT_THAT(error_of([] { ctx.set("DEBG", "1"); }), HasSubstr("did you mean DEBUG?"));
  EXPECT_THAT(error_of([] { ctx.set("DEBUG", "lots"); }),
              testing::AllOf(HasSubstr("DEBUG=lots is not a number"), HasSubstr("0 quiet")));
  EXPECT_THAT(error_of([] { ctx.set("DEBUG", "1x"); }), HasSubstr("not a number"));
  EXPECT_THAT(error_of([] { ctx.set("THREADS", "-1"); }), HasSubstr("negative"));
  EXPECT_THAT(error_of([] { ctx.set("THREADS", "99999999999"); }), HasSubstr("not a number"));
}
TEST(context, takes_arguments_of_its_form_only) {
  Context before = ctx;
  EXPECT_TRUE(set_from_argument("OPT=0"));
  EXPECT_EQ(ctx.OPT, 0);
  EXPECT_FALSE(set_from_argument("file=x"));
  EXPECT_FALSE(set_from_argument("--OPT=0"));
  EXPECT_FALSE(set_from_argument("OPT"));
  EXPECT_FALSE(set_from_argument("=1"));
  EXPECT_THROW(set_from_argument("OTP=1"), Error);
  ctx = before;
}
TEST(context, rows_name_every_variable_once) {
  for (const VariableRow& a : context_rows()) {
    EXPECT_FALSE(a.doc.empty()) << a.name;
    int same = 0;
    for (const VariableRow& b : context_rows()) same += a.name == b.name;
    EXPECT_EQ(same, 1) << a.name;
  }
}
TEST(context, another_thread_gets_the_environment_not_our_changes) {
  Scoped s(ctx.DEBUG, 7);
  int seen = -1;
  std::thread([&] {
    environment_to_thread();
    seen = ctx.DEBUG;
  }).join();
  EXPECT_NE(seen, 7);
}

TEST(file, appears_whole_and_leaves_nothing_beside_it) {
  std::string folder = temporary("folder"), path = folder + "/a/b";
  make_folders(folder + "/a");
  make_folders(folder + "/a");
  write_file(path, "one");
  write_file(path, std::string(200'000, 'x'));
  EXPECT_EQ(read_file(path), std::string(200'000, 'x'));
  EXPECT_EQ(MappedFile(path).bytes().size(), 200'000u);
  write_file(path, "");
  EXPECT_TRUE(MappedFile(path).bytes().empty());
  EXPECT_EQ(std::system(("test \"$(ls " + folder + "/a)\" = b").c_str()), 0);
  EXPECT_EQ(std::system(("rm -r " + folder).c_str()), 0);
}
TEST(file, errors_name_the_path) {
  EXPECT_THAT(error_of([] { read_file("/nonexistent/x"); }), HasSubstr("/nonexistent/x: No such file"));
  EXPECT_THAT(error_of([] { write_file("/nonexistent/x", ""); }), HasSubstr("/nonexistent/x"));
  EXPECT_THAT(error_of([] { MappedFile m("/"); }), HasSubstr("not a regular file"));
  EXPECT_THROW(make_folders("/proc/none/here"), OsError);
}

}  // namespace
}  // namespace ingot
