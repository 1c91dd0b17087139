// SPDX-License-Identifier: MIT
// Data for training: the IDX reader against every way a file can be wrong, SHA-256 against FIPS 180-4's examples, drawn
// digits.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <memory>

#include "tools/train/train.h"

namespace ingot {
namespace {

std::vector<u8> gzip(std::span<const u8> bytes) {
  std::vector<u8> out(bytes.size() + 1024);
  z_stream z{};
  EXPECT_EQ(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  z.next_in = const_cast<u8*>(bytes.data()), z.avail_in = uInt(bytes.size());
  z.next_out = out.data(), z.avail_out = uInt(out.size());
  EXPECT_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

const std::vector<u8> plain = {0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 10, 20, 30, 40, 50, 60};

std::string error_of(std::vector<u8> bytes) {
  try {
    parse_idx(bytes, "f");
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(Idx, ReadsPlainAndGzip) {
  for (const auto& bytes : {plain, gzip(plain)}) {
    Idx idx = parse_idx(bytes, "f");
    EXPECT_EQ(idx.shape, (std::vector<i64>{2, 3}));
    EXPECT_EQ(idx.data, (std::vector<u8>{10, 20, 30, 40, 50, 60}));
  }
}

TEST(Idx, ErrorsNameTheRule) {
  auto with = [](size_t at, u8 v) {
    auto b = plain;
    b[at] = v;
    return b;
  };
  EXPECT_EQ(error_of(with(0, 1)), "f: not an IDX file: it starts with bytes 1 0, expected 0 0");
  EXPECT_EQ(error_of(with(2, 13)), "f: elements of IDX type 13; only 8 (unsigned bytes) is supported");
  EXPECT_EQ(error_of(with(3, 0)), "f: 0 axes; expected 1 to 8");
  EXPECT_EQ(error_of(with(3, 9)), "f: 9 axes; expected 1 to 8");
  EXPECT_EQ(error_of(with(7, 0)), "f: axis 0 has size 0");
  EXPECT_EQ(error_of(with(7, 4)), "f: shape (4, 3) needs 12 bytes of elements, the file has 6");
  EXPECT_EQ(error_of(with(4, 255)), "f: axis 1 of size 3 makes it larger than 4 GiB");
}

TEST(Idx, OverflowingShapesAreRefused) {
  std::vector<u8> bytes = {0, 0, 8, 8};
  for (int i = 0; i < 32; i++) bytes.push_back(255);
  EXPECT_EQ(error_of(bytes), "f: axis 1 of size 4294967295 makes it larger than 4 GiB");
}

TEST(Idx, EveryTruncationAndOneByteTooManyAreErrors) {
  for (const auto& whole : {plain, gzip(plain)}) {
    for (size_t n = 0; n < whole.size(); n++) EXPECT_NE(error_of({whole.begin(), whole.begin() + i64(n)}), "") << n;
    auto longer = whole;
    longer.push_back(0);
    EXPECT_NE(error_of(longer), "");
  }
}

// Under AddressSanitizer an over-read fails here. What is accepted must be consistent.
TEST(Idx, MutationsNeverCrash) {
  constexpr int mutations = 100'000;
  const std::vector<u8> seeds[] = {plain, gzip(plain)};
  Random random{1};
  int accepted = 0;
  for (int i = 0; i < mutations; i++) {
    std::vector<u8> bytes = seeds[i % 2];
    for (i64 edits = 1 + random.below(3); edits--;) {
      const i64 kind = random.below(8);
      const size_t at = size_t(random.below(i64(bytes.size())));
      if (kind < 5)
        bytes[at] = random.below(2) ? u8(random.next()) : u8(bytes[at] ^ 1 << random.below(8));
      else if (kind == 5)
        bytes.resize(at + 1);
      else if (kind == 6)
        bytes.insert(bytes.begin() + i64(at), u8(random.next()));
      else
        bytes.erase(bytes.begin() + i64(at));
      if (bytes.empty()) bytes.push_back(0);
    }
    // The exact-size heap copy puts a sanitizer's red zone right behind the last byte.
    std::unique_ptr<u8[]> copy(new u8[bytes.size()]);
    std::copy(bytes.begin(), bytes.end(), copy.get());
    try {
      Idx idx = parse_idx({copy.get(), bytes.size()}, "f");
      i64 size = 1;
      for (i64 n : idx.shape) size *= n;
      ASSERT_EQ(size, i64(idx.data.size()));
      accepted++;
    } catch (const Error&) {}
  }
  // A changed element of a plain file is a legal file; a changed gzip file has a wrong checksum, save in its unused
  // header bytes.
  EXPECT_GT(accepted, mutations / 100);
  EXPECT_LT(accepted, mutations / 2);
}

TEST(Idx, AGzipBombIsRefusedBeforeMemoryIsSpent) {
  std::vector<u8> head = {0, 0, 8, 2, 0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff, 1};
  EXPECT_EQ(error_of(gzip(head)).substr(0, 38), "f: shape (65535, 65535) cannot come fr");
}

TEST(Sha256, Fips180Examples) {
  auto of = [](std::string_view s) { return sha256({reinterpret_cast<const u8*>(s.data()), s.size()}); };
  EXPECT_EQ(of(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(of("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(of(std::string(1'000'000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Digits, SameSeedSameBits) {
  Images a = draw_digits(300, 7), b = draw_digits(300, 7), c = draw_digits(300, 8);
  EXPECT_EQ(a.pixels, b.pixels);
  EXPECT_EQ(a.labels, b.labels);
  EXPECT_NE(a.pixels, c.pixels);
}

// Learnable: the nearest of 2,000 drawn digits has the same label most of the time; and varied: not always.
TEST(Digits, ANearestNeighbourReadsThem) {
  Images train = draw_digits(2000, 1), test = draw_digits(100, 2);
  int right = 0, seen[10] = {};
  for (i64 i = 0; i < test.n(); i++) {
    i64 best = i64(1) << 60, label = -1;
    for (i64 j = 0; j < train.n(); j++) {
      i64 d = 0;
      for (i64 p = 0; p < 784 && d < best; p++) {
        const i64 e = int(test.pixels[size_t(i * 784 + p)]) - train.pixels[size_t(j * 784 + p)];
        d += e * e;
      }
      if (d < best) best = d, label = train.labels[size_t(j)];
    }
    right += label == test.labels[size_t(i)];
    seen[test.labels[size_t(i)]]++;
  }
  EXPECT_GE(right, 80);
  for (int n : seen) EXPECT_GT(n, 0);
}

TEST(Order, APermutationEachEpoch) {
  auto a = permutation(1000, 3, 0), b = permutation(1000, 3, 1);
  EXPECT_EQ(a, permutation(1000, 3, 0));
  EXPECT_NE(a, b);
  std::vector<bool> seen(1000);
  for (i64 i : a) seen[size_t(i)] = true;
  EXPECT_EQ(std::count(seen.begin(), seen.end(), true), 1000);
}

TEST(MnistData, AFolderWithTheTestSetIsSplitAndAWrongFolderIsAnError) {
  char folder[] = "/tmp/ingot-mnist-XXXXXX";
  ASSERT_TRUE(mkdtemp(folder));
  auto file = [&](std::string name, std::vector<u8> head, i64 bytes) {
    head.resize(head.size() + size_t(bytes), 5);
    write_file(str(folder, "/", name), {reinterpret_cast<char*>(head.data()), head.size()});
  };
  EXPECT_THROW(mnist_data(folder), Error);
  file("t10k-images-idx3-ubyte", {0, 0, 8, 3, 0, 0, 0, 20, 0, 0, 0, 28, 0, 0, 0, 28}, 20 * 784);
  file("t10k-labels-idx1-ubyte", {0, 0, 8, 1, 0, 0, 0, 20}, 20);
  DataSet split = mnist_data(folder);
  EXPECT_EQ(split.train.n(), 18);
  EXPECT_EQ(split.test.n(), 2);
  EXPECT_FALSE(split.synthetic);
  file("t10k-labels-idx1-ubyte", {0, 0, 8, 1, 0, 0, 0, 19}, 19);
  EXPECT_THROW(mnist_data(folder), Error);
  unlink(str(folder, "/t10k-images-idx3-ubyte").c_str());
  unlink(str(folder, "/t10k-labels-idx1-ubyte").c_str());
  rmdir(folder);
}

// A program called curl stands in for the network: it copies what `answer` holds to where --output says.
void downloads(const std::string& folder) {
  const std::string answer = str(folder, "/answer"), curl = str(folder, "/curl"), cache = str(folder, "/ingot/mnist");
  const std::string real = str(std::string(ctx.INGOT_DATA), "/t10k-labels-idx1-ubyte.gz");
  Scoped nowhere(ctx.INGOT_DATA, "");
  make_folders(cache);
  write_file(curl, str("#!/bin/sh\nwhile [ \"$1\" != --output ]; do shift; done\ncp ", answer, " \"$2\"\n"));
  chmod(curl.c_str(), 0755);
  setenv("PATH", str(folder, ":/usr/bin:/bin").c_str(), 1);
  setenv("XDG_CACHE_HOME", folder.c_str(), 1);
  write_file(answer, "not MNIST");
  EXPECT_TRUE(mnist_data("").synthetic);
  EXPECT_EQ(rmdir(cache.c_str()), 0) << "something was left there";
  if (file_exists(real)) {  // all files but one are there, and the right bytes come for that one
    make_folders(cache);
    for (const char* name : {"train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"})
      write_file(str(cache, "/", name), "placeholder");
    write_file(answer, read_file(real));
    EXPECT_THROW(mnist_data(""), Error);  // at the placeholders, after the download
    EXPECT_EQ(read_file(str(cache, "/t10k-labels-idx1-ubyte.gz")), read_file(real));
    for (const char* name :
         {"train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte.gz"})
      EXPECT_EQ(unlink(str(cache, "/", name).c_str()), 0) << name;
    EXPECT_EQ(rmdir(cache.c_str()), 0);
  }
  unlink(answer.c_str()), unlink(curl.c_str());
  rmdir(str(folder, "/ingot").c_str()), rmdir(folder.c_str());
}
TEST(MnistData, ADownloadIsUsedOnlyIfItsChecksumIsRight) {
  char folder[] = "/tmp/ingot-mnist-XXXXXX";
  ASSERT_TRUE(mkdtemp(folder));
  auto child = [&] {  // whose environment is its own
    downloads(folder);
    exit(testing::Test::HasFailure());
  };
  EXPECT_EXIT(child(), testing::ExitedWithCode(0), "expected 440fcabf.*not used");
}

TEST(MnistData, SyntheticSaysSo) {
  DataSet split = mnist_data("synthetic");
  EXPECT_TRUE(split.synthetic);
  EXPECT_NE(split.source.find("SYNTHETIC"), std::string::npos);
  EXPECT_GE(split.train.n(), 512);
}

}  // namespace
}  // namespace ingot
