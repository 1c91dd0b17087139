// SPDX-License-Identifier: MIT
// Where the images come from (the order is in train.h). A download runs curl, else wget, as a child: they know the
// user's proxies and certificates, show progress and are on every Debian system or one apt away, while linking libcurl
// would make every start of the tool pay for a library that is used once. The child writes a temporary file; only a
// file whose SHA-256 is the one in mnist_data.def is renamed into place.
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

#include "tools/train/train.h"

extern char** environ;

namespace ingot {
namespace {

enum Role { TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS };
struct FileRow {
  Role role;
  const char* name;
  i64 bytes;
  const char* sha256;
};
#define FILE_ROW(role, name, bytes, sum) {role, name, bytes, sum},
#define MIRROR(address)
constexpr FileRow files[] = {
#include "tools/train/mnist_data.def"
};
#undef FILE_ROW
#undef MIRROR
#define FILE_ROW(...)
#define MIRROR(address) address,
constexpr const char* mirrors[] = {
#include "tools/train/mnist_data.def"
};
#undef FILE_ROW
#undef MIRROR

// The path of a file in the folder, packed or not; empty if it is not there.
std::string find(const std::string& folder, Role role) {
  const std::string packed = str(folder, "/", files[role].name);
  if (file_exists(packed)) return packed;
  const std::string plain = packed.substr(0, packed.size() - 3);
  return file_exists(plain) ? plain : "";
}

Images load(const std::string& image_path, const std::string& label_path) {
  Idx images = read_idx(image_path), labels = read_idx(label_path);
  if (images.shape.size() != 3 || images.shape[1] != 28 || images.shape[2] != 28)
    throw Error(image_path, ": shape ", images.shape, "; expected (n, 28, 28)");
  if (labels.shape.size() != 1 || labels.shape[0] != images.shape[0])
    throw Error(label_path, ": shape ", labels.shape, "; expected (", images.shape[0], "), one label for each image");
  for (size_t i = 0; i < labels.data.size(); i++)
    if (labels.data[i] > 9) throw Error(label_path, ": label ", i, " is ", int(labels.data[i]), "; expected 0 to 9");
  return {std::move(images.data), std::move(labels.data)};
}

Images slice(const Images& all, i64 begin, i64 end) {
  return {{all.pixels.begin() + begin * 784, all.pixels.begin() + end * 784},
          {all.labels.begin() + begin, all.labels.begin() + end}};
}

std::optional<DataSet> from_folder(const std::string& folder) {
  std::string path[4];
  for (const FileRow& f : files) path[f.role] = find(folder, f.role);
  if (path[TEST_IMAGES].empty() || path[TEST_LABELS].empty()) return {};
  Images test = load(path[TEST_IMAGES], path[TEST_LABELS]);
  if (!path[TRAIN_IMAGES].empty() && !path[TRAIN_LABELS].empty()) {
    Images train = load(path[TRAIN_IMAGES], path[TRAIN_LABELS]);
    std::string source = str("MNIST from ", folder, ": ", train.n(), " images to train, ", test.n(), " to test");
    return DataSet{std::move(train), std::move(test), source};
  }
  const i64 n = test.n(), held_back = n / 10;
  return DataSet{slice(test, 0, n - held_back), slice(test, n - held_back, n),
                 str("MNIST from ", folder, ", which has the test set only: its first ", n - held_back,
                     " images to train, its last ", held_back, " to test")};
}

// Runs a program with its output on the terminal; its exit status, or -1 if it could not be started.
int run(const std::vector<std::string>& command) {
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  pid_t child;
  if (posix_spawnp(&child, argv[0], nullptr, nullptr, argv.data(), environ)) return -1;
  int status;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool download(const FileRow& file, const std::string& folder) {
  const std::string path = str(folder, "/", file.name), partial = str(path, ".", getpid(), ".partial");
  for (std::string_view mirror : mirrors) {
    const std::string address = str(mirror, file.name);
    fprintf(stderr, "downloading %s (%.1f MB)\n", address.c_str(), double(file.bytes) / 1e6);
    const bool bar = isatty(STDERR_FILENO);
    int status =
        run({"curl", "--fail", "--location", "--connect-timeout", "5", "--max-time", "300", "--max-filesize",
             str(file.bytes), bar ? "--progress-bar" : "--silent", "--show-error", "--output", partial, address});
    if (status == -1 || status == 127)
      status = run({"wget", "--tries=1", "--connect-timeout=5", bar ? "--show-progress" : "--no-verbose", "--quiet",
                    "--output-document", partial, address});
    if (status == 0 && file_exists(partial)) {
      const std::string sum = sha256(MappedFile(partial).bytes());
      if (sum == file.sha256 && rename(partial.c_str(), path.c_str()) == 0) return true;
      fprintf(stderr, "%s: SHA-256 is %s, expected %s; not used\n", address.c_str(), sum.c_str(), file.sha256);
    }
    unlink(partial.c_str());
  }
  return false;
}

}  // namespace

DataSet mnist_data(const std::string& folder, bool offline) {
  const std::string given(folder.empty() ? std::string(ctx.INGOT_DATA) : folder);
  if (given != "synthetic") {
    if (!given.empty()) {
      for (const std::string& place : {given, given + "/mnist"})
        if (auto split = from_folder(place)) return std::move(*split);
      throw Error("no MNIST in ", given, ": expected ", files[TEST_IMAGES].name, " and ", files[TEST_LABELS].name,
                  " (with or without .gz), and the two train files if you have them; `synthetic` draws digits instead");
    }
    const std::string cache = cache_folder() + "/mnist";
    make_folders(cache);
    bool complete = true;
    for (const FileRow& file : files)
      complete = complete && (!find(cache, file.role).empty() || (!offline && download(file, cache)));
    if (complete) return std::move(*from_folder(cache));
    // A part of the download is still real data, if it holds the test set.
    if (auto split = from_folder(cache)) return std::move(*split);
  }
  DataSet split{draw_digits(9000, 1), draw_digits(1000, 2), "", true};
  split.source =
      str("SYNTHETIC digits, drawn by this program", given.empty() ? " because MNIST could not be downloaded" : "",
          ": ", split.train.n(), " images to train, ", split.test.n(), " to test. ",
          "For real ones put MNIST's files in a folder and set INGOT_DATA=FOLDER");
  return split;
}

}  // namespace ingot
