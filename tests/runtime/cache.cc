// SPDX-License-Identifier: MIT
// The kernel cache: what it writes it reads, anything else counts as absent; several processes; files that are not
// ours.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>
#include "compiler/runtime/runtime.h"

namespace ingot {
namespace {
using testing::HasSubstr;

Program sample(int i) {
  Program p;
  p.name = str("kernel_", i), p.source = "a.cc:1", p.isa = "x86", p.arch = "avx2", p.moves = "SPLIT(r0, 8, vector)";
  p.code.assign(size_t(50 + i), u8(i));
  p.params = {{F32, 100 + i, true, false}, {I64, 7, false, true}};
  p.code_bytes = 40, p.threads = 64, p.scalars = 20, p.vectors = 30, p.frame_bytes = 16;
  p.extent = 12, p.local_bytes = 64, p.operations = 34, p.bytes = 56, p.estimate_ns = 78, p.accesses = 9,
  p.accesses_proven = 8;
  p.notes = {{0, "loop r0"}, {20, "store"}};
  return p;
}
const Target target{"x86", "avx2", 1, 2};

struct Cache : testing::Test {
  std::string path = str(testing::TempDir(), "ingot_cache_", getpid(), ".db");
  Scoped<Text> db{ctx.CACHE_DB, Text(path)};
  void TearDown() override {
    Scoped other(ctx.CACHE_DB, path + ".none");
    load_program(1, target);  // closes the file
    ASSERT_EQ(std::system(("rm -f " + path + "*").c_str()), 0);
  }
  void reopen() {
    Scoped other(ctx.CACHE_DB, path + ".other");
    load_program(1, target);
  }
};

TEST_F(Cache, a_program_survives_the_disk) {
  store_program(1, sample(1));
  sync_cache();
  reopen();
  auto p = load_program(1, target);
  ASSERT_TRUE(p);
  EXPECT_EQ(encode_program(*p, 0), encode_program(sample(1), 0));
  EXPECT_EQ(p->notes, sample(1).notes);
  EXPECT_FALSE(load_program(2, target));
  EXPECT_FALSE(load_program(1, Target{"x86", "avx512", 1, 2}));
}
TEST_F(Cache, mutations_of_a_program_are_absent) {
  std::string good = encode_program(sample(3), 0);
  ASSERT_TRUE(decode_program(good, 0));
  for (size_t i = 0; i < good.size(); i++) {
    EXPECT_FALSE(decode_program(std::string_view(good).substr(0, i), 0));
    std::string bad = good;
    for (int bit = 0; bit < 8; bit++) {
      bad[i] = char(good[i] ^ 1 << bit);
      EXPECT_FALSE(decode_program(bad, 0)) << i;
    }
  }
  EXPECT_FALSE(decode_program(good + "x", 0));
  EXPECT_FALSE(decode_program(good, 1));
}
TEST_F(Cache, mutations_with_a_right_hash_do_not_crash) {
  std::string good = encode_program(sample(3), 0);
  u64 seed = 1;
  for (int i = 0; i < 20'000; i++) {
    std::string bad = good;
    for (int k = 0; k < 3; k++) {
      seed = seed * 6364136223846793005ull + 1442695040888963407ull;
      bad[8 + (seed >> 33) % (bad.size() - 16)] = char(seed >> 20);
    }
    u64 hash = hash_bytes(bad.data(), bad.size() - 8, 0);
    std::memcpy(bad.data() + bad.size() - 8, &hash, 8);
    if (auto p = decode_program(bad, 0)) {
      EXPECT_EQ(encode_program(*p, 0).size(), bad.size());
    }
  }
}
TEST_F(Cache, processes_write_and_read_at_the_same_time) {
  constexpr int processes = 4, kernels = 60;
  std::vector<pid_t> children;
  for (int c = 0; c < processes; c++) {
    pid_t child = fork();
    if (!child) {
      int wrong = 0;
      for (int i = 0; i < kernels; i++) {
        store_program(u64(1000 * c + i), sample(i));
        if (i % 10 == 0) sync_cache();
        for (int other = 0; other < processes; other++)
          if (auto p = load_program(u64(1000 * other + i), target))
            wrong += encode_program(*p, 0) != encode_program(sample(i), 0);
      }
      sync_cache();
      _exit(wrong);
    }
    children.push_back(child);
  }
  for (pid_t child : children) {
    int status = -1;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  int found = 0;
  for (int c = 0; c < processes; c++)
    for (int i = 0; i < kernels; i++)
      if (auto p = load_program(u64(1000 * c + i), target)) {
        found++;
        EXPECT_EQ(p->name, sample(i).name);
      }
  EXPECT_EQ(found, processes * kernels);
}
TEST_F(Cache, files_that_are_not_ours_are_left_alone_with_one_note) {
  struct Case {
    std::string contents, note;
  } cases[] = {{"this is a letter, not a database at all, and long enough to be one", "not a database"},
               {std::string(5000, '\xff'), "not a database"}};
  for (const Case& c : cases) {
    write_file(path, c.contents);
    reopen();
    testing::internal::CaptureStderr();
    store_program(1, sample(1));
    sync_cache();
    EXPECT_FALSE(load_program(1, target));
    EXPECT_FALSE(load_program(1, target));
    std::string note = testing::internal::GetCapturedStderr();
    EXPECT_THAT(note, HasSubstr(c.note));
    EXPECT_THAT(note, HasSubstr(path));
    EXPECT_EQ(note.find("ingot:"), note.rfind("ingot:"));
    EXPECT_EQ(read_file(path), c.contents);
  }
}
TEST_F(Cache, another_programs_database_is_left_alone) {
  if (std::system(("python3 -c \"import sqlite3; c = sqlite3.connect('" + path +
                   "'); c.execute('create table t(x)'); c.commit()\"")
                      .c_str()))
    GTEST_SKIP() << "no python3 with sqlite3";
  std::string before = read_file(path);
  reopen();
  testing::internal::CaptureStderr();
  store_program(1, sample(1));
  sync_cache();
  EXPECT_FALSE(load_program(1, target));
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("a database of something else"));
  EXPECT_EQ(read_file(path), before);
}
TEST_F(Cache, damaged_pages_never_give_a_wrong_program) {
  for (int i = 0; i < 100; i++) store_program(u64(i), sample(i));
  sync_cache();
  reopen();
  std::string good = read_file(path);
  testing::internal::CaptureStderr();
  u64 seed = 5;
  for (int round = 0; round < 40; round++) {
    std::string bad = good;
    for (int k = 0; k < 50; k++) {
      seed = seed * 6364136223846793005ull + 1442695040888963407ull;
      bad[(seed >> 33) % bad.size()] = char(seed >> 20);
    }
    write_file(path, bad);
    reopen();
    for (int i = 0; i < 100; i++)
      if (auto p = load_program(u64(i), target)) {
        ASSERT_EQ(encode_program(*p, 0), encode_program(sample(i), 0));
      }
  }
  testing::internal::GetCapturedStderr();
}
TEST_F(Cache, an_unwritable_place_is_a_note) {
  Scoped other(ctx.CACHE_DB, "/nonexistent/kernels.db");
  testing::internal::CaptureStderr();
  store_program(1, sample(1));
  sync_cache();
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("/nonexistent/kernels.db is not used"));
}

}  // namespace
}  // namespace ingot
