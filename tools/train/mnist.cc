// SPDX-License-Identifier: MIT
// `ingot train mnist`: two blocks of two convolutions, batch norm and max pooling, then a linear layer (the network of
// tinygrad's examples/beautiful_mnist.py), trained with Adam through a captured step. A checkpoint holds all that the
// next step depends on: parameters, running statistics, optimiser state, the random counter, and the position in the
// data. The order of the data is a function of seed and epoch. So a resumed run computes the same bits as one that
// never stopped.
#include <signal.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>

#include "compiler/tensor/optim.h"
#include "tools/train/faults.h"

namespace ingot {
namespace {

struct Block {
  nn::Conv2d conv1, conv2;
  nn::BatchNorm2d norm;
  Tensor operator()(const Tensor& x) const { return max_pool2d(norm(conv2(conv1(x).relu()).relu()), 2); }
};
struct Net {
  Block block1, block2;
  nn::Linear linear;
  Tensor operator()(const Tensor& pixels) const {  // u8 (n, 1, 28, 28) to logits (n, 10)
    return linear(block2(block1(pixels.to(F32) * (1. / 255))).flatten(1));
  }
};

Net make_net(i64 c) {
  return {{nn::Conv2d(1, c, 5), nn::Conv2d(c, c, 5), nn::BatchNorm2d(c)},
          {nn::Conv2d(c, 2 * c, 3), nn::Conv2d(2 * c, 2 * c, 3), nn::BatchNorm2d(2 * c)},
          nn::Linear(2 * c * 9, 10)};
}

struct Job {
  i64 steps, batch, seed, channels, faults, fault_seed;
  double lr;
  std::string data, save, resume;
  bool json, offline;
};

volatile sig_atomic_t interrupted = 0;
void on_interrupt(int) { interrupted = 1; }

// All that the next step depends on, by name.
std::map<std::string, Tensor> state_of(const Net& net, const optim::Optimizer& optimizer) {
  std::map<std::string, Tensor> all;
  for (auto& [name, t] : nn::state_dict(net)) all.emplace("net." + name, t);
  for (auto& [name, t] : optimizer.state_dict()) all.emplace("optimizer." + name, t);
  return all;
}

struct Position {  // in the data
  i64 step = 0, seed = 0, batch = 0, images = 0;
};
constexpr std::string_view format = "ingot train mnist 1";

void save(const std::string& path, const Net& net, const optim::Optimizer& optimizer, const Position& at) {
  std::map<std::string, Tensor> all = state_of(net, optimizer);
  all.emplace("random_state", random_state());
  save_safetensors(path, all,
                   {{"format", std::string(format)},
                    {"step", str(at.step)},
                    {"seed", str(at.seed)},
                    {"batch", str(at.batch)},
                    {"images", str(at.images)}});
}

Position load(const std::string& path, const Net& net, optim::Optimizer& optimizer) {
  TensorFile file = load_safetensors(path);
  auto text = [&](const char* key) {
    auto found = file.metadata.find(key);
    return found == file.metadata.end() ? std::string() : found->second;
  };
  auto number = [&](const char* key) {
    const std::string value = text(key);
    i64 n = -1;
    std::from_chars(value.data(), value.data() + value.size(), n);
    if (n < 0 || str(n) != value) throw Error(path, ": its metadata has no number '", key, "'");
    return n;
  };
  if (text("format") != format)
    throw Error(path, " is not a checkpoint of `ingot train mnist`: format '", text("format"), "', expected '", format,
                "'");
  auto state = file.tensors.extract("random_state");
  if (state.empty()) throw Error(path, ": random_state is missing");
  nn::load_state_dict(state_of(net, optimizer), file.tensors);
  set_random_state(state.mapped());
  return {number("step"), number("seed"), number("batch"), number("images")};
}

struct Run {  // what is made anew when a device has forgotten it
  Net net;
  optim::Adam optimizer;
  Captured step;
  explicit Run(const Job& o)
      : net(make_net(o.channels)),
        optimizer(nn::parameters(net), {.lr = o.lr}),
        step([this](std::span<const Tensor> in) {
          nn::Training training;
          optimizer.zero_grad();
          Tensor loss = cross_entropy(net(in[0]), in[1]);
          loss.backward();
          optimizer.step({loss});
          return std::vector{loss};
        }) {}
  std::map<std::string, Tensor> state() const { return state_of(net, optimizer); }
};

// After a fault: the state that the step began with, in the same memory if it is still there.
void restore(std::unique_ptr<Run>& run, Faults& faults, const Job& o) {
  if (run->step.ready() && faults.put_back(run->state())) return;
  for (int attempt = 0;; attempt++) try {
      if (attempt) faults.open_again();
      manual_seed(u64(o.seed));
      run = std::make_unique<Run>(o);
      return nn::load_state_dict(run->state(), faults.kept());
    } catch (const DeviceError&) {
      if (attempt == 5) throw;
    }
}

// The images that step `step` sees: epochs of whole batches, each in its own order.
struct Batch {
  Tensor pixels, labels;
};
Batch batch_of(const Images& images, std::span<const i64> which) {
  std::vector<u8> pixels(which.size() * 784);
  std::vector<i32> labels(which.size());
  for (size_t i = 0; i < which.size(); i++) {
    memcpy(&pixels[i * 784], &images.pixels[size_t(which[i]) * 784], 784);
    labels[i] = images.labels[size_t(which[i])];
  }
  const i64 n = i64(which.size());
  return {from_data(std::span<const u8>(pixels), {n, 1, 28, 28}), from_data(std::span<const i32>(labels), {n})};
}
struct Order {
  const Images& images;
  i64 seed, batch, epoch = -1;
  std::vector<i64> order = {};
  Batch at(i64 step) {
    const i64 per_epoch = images.n() / batch;
    if (step / per_epoch != epoch) {
      epoch = step / per_epoch;
      order = permutation(images.n(), u64(seed), u64(epoch));
    }
    return batch_of(images, std::span(order).subspan(size_t(step % per_epoch * batch), size_t(batch)));
  }
};

double accuracy(const Net& net, const Images& test, i64 batch) {
  const i64 part = std::min({batch, i64(500), test.n()});
  Captured predict([&](std::span<const Tensor> in) { return std::vector{net(in[0]).argmax(1)}; });
  i64 right = 0;
  for (i64 begin = 0; begin < test.n(); begin += part) {
    std::vector<i64> which;
    for (i64 i = begin; i < begin + part; i++)
      which.push_back(std::min(i, test.n() - 1));  // the last part is filled up
    const std::vector<i64> seen = predict({batch_of(test, which).pixels})[0].to_vector<i64>();
    for (i64 i = begin; i < std::min(begin + part, test.n()); i++)
      right += seen[size_t(i - begin)] == test.labels[size_t(i)];
  }
  return double(right) / double(test.n());
}

std::string minutes(double seconds) {
  char text[32];
  snprintf(text, sizeof text, "%d:%02d", int(seconds) / 60, int(seconds) % 60);
  return text;
}

// One line that is rewritten on a terminal; now and then a line of its own in a log; every step as JSON if asked for.
void progress(const Job& o, i64 first, i64 step, float loss, double seconds, const Images& train) {
  const i64 done = step - first, left = o.steps - step;
  const double rate = double(done * o.batch) / seconds;
  if (o.json) {
    printf("{\"step\": %" PRId64 ", \"loss\": %s, \"images_per_second\": %.0f}\n", step, str(loss).c_str(), rate);
    fflush(stdout);
    return;
  }
  const std::string line = str("step ", step, "/", o.steps, "  epoch ", (step - 1) / (train.n() / o.batch) + 1);
  char rest[96];
  snprintf(rest, sizeof rest, "  loss %.4f  %.0f images/s  %s left", double(loss), rate,
           minutes(double(left) * seconds / double(done)).c_str());
  if (on_terminal()) {
    constexpr int width = 20;
    const int filled = int(step * width / o.steps);
    printf("\r[%s%s] %s%s\033[K", std::string(size_t(filled), '#').c_str(),
           std::string(size_t(width - filled), '.').c_str(), line.c_str(), rest);
  } else if (step % 10 == 0 || done == 1 || left == 0) {
    printf("%s%s\n", line.c_str(), rest);
  }
  fflush(stdout);
}

// Where the time of the first step goes that is not the running of kernels. What is neither schedule nor machine code
// is the graph: the step's host code, its gradients, and the memory for its results.
struct Prepared {
  double graph = 0, schedule = 0, compile = 0;  // milliseconds
};
Prepared prepared_since(const Counters& before, i64 begin) {
  const Counters& now = counters();
  const double all = double(now_ns() - begin), run = double(now.run_ns - before.run_ns);
  Prepared p{0, double(now.schedule_ns - before.schedule_ns) * 1e-6, double(now.compile_ns - before.compile_ns) * 1e-6};
  p.graph = (all - run) * 1e-6 - p.schedule - p.compile;
  return p;
}

int train(const Job& asked) {
  Job o = asked;
  DataSet data = mnist_data(o.data, o.offline);
  if (!o.json) printf("%s\n", data.synthetic ? bold(data.source).c_str() : data.source.c_str());
  manual_seed(u64(o.seed));
  auto run = std::make_unique<Run>(o);
  Faults faults(o.faults, u64(o.fault_seed), o.json);
  Position at{0, o.seed, o.batch, data.train.n()};
  if (!o.resume.empty()) {
    at = load(o.resume, run->net, run->optimizer);
    o.seed = at.seed, o.batch = at.batch;
    if (at.images != data.train.n())
      throw Error(o.resume, " was trained on ", at.images, " images; this data set has ", data.train.n(),
                  ". Give the same --data");
    if (!o.json) printf("resumed %s at step %" PRId64 "\n", o.resume.c_str(), at.step);
  }
  if (o.batch < 2 || o.batch > data.train.n())
    throw UsageError("ingot train mnist: --batch is 2 to ", data.train.n(), ", got ", o.batch);
  if (o.steps < at.step)
    throw UsageError("ingot train mnist: the checkpoint is at step ", at.step, "; give --steps more than that");

  struct sigaction action {
  }, before{};
  action.sa_handler = on_interrupt;
  action.sa_flags = SA_RESETHAND;  // a second Ctrl-C ends at once
  interrupted = 0;
  sigaction(SIGINT, &action, &before);

  Order order{data.train, o.seed, o.batch};
  const i64 first = at.step, begin = now_ns();
  i64 steady_begin = begin, steady_from = first;  // without the steps that compile and record
  u64 operations = 0, kernels = 0;
  Prepared prepared;
  faults.keep(run->state());
  while (at.step < o.steps && !interrupted) {
    float loss;
    try {
      faults.inject(at.step, o.steps, i64(kernels));
      Batch b = order.at(at.step);
      const Counters before_step = counters();
      const i64 step_begin = now_ns();
      const Tensor loss_tensor = run->step({b.pixels, b.labels})[0];
      if (at.step == first) prepared = prepared_since(before_step, step_begin);
      loss = loss_tensor.item<float>();
      operations = counters().operations - before_step.operations;
      kernels = counters().kernels - before_step.kernels;
      const bool again = faults.due(at.step, o.steps);  // more than one fault a step: once more from where it began
      if (!again) faults.keep(run->state());
      faults.survived(at.step);
      if (again) {
        restore(run, faults, o);
        continue;
      }
    } catch (const DeviceError& e) {
      faults.failed(at.step, e);
      restore(run, faults, o);
      continue;
    }
    at.step++;
    if (!(loss == loss))
      throw Error("the loss is not a number at step ", at.step, "; a smaller --lr may help (it is ", o.lr, ")");
    progress(o, first, at.step, loss, double(now_ns() - begin) * 1e-9, data.train);
    if (at.step - first == 2) steady_begin = now_ns(), steady_from = at.step;
  }
  const double seconds = double(now_ns() - begin) * 1e-9, steady = double(now_ns() - steady_begin) * 1e-9;
  sigaction(SIGINT, &before, nullptr);
  if (on_terminal() && !o.json) printf("\n");
  if (!o.save.empty()) {
    save(o.save, run->net, run->optimizer, at);
    if (!o.json) printf("saved %s\n", o.save.c_str());
  }
  if (interrupted) {
    if (!o.json)
      printf("interrupted at step %" PRId64 "; go on with: ingot train mnist --resume %s --steps %" PRId64 "\n",
             at.step, o.save.c_str(), o.steps);
    return 130;
  }

  faults.summary();
  const double right = accuracy(run->net, data.test, o.batch);
  const double flops = at.step > steady_from ? double(operations) * double(at.step - steady_from) / steady : 0;
  const double peak = peak_flops();
  if (o.json) {
    printf("{\"accuracy\": %.4f, \"seconds\": %.3f, \"kernels\": %" PRIu64
           ", \"gflops\": %.1f, \"peak_gflops\": %.0f, \"synthetic\": %s"
           ", \"graph_ms\": %.1f, \"schedule_ms\": %.1f, \"compile_ms\": %.1f}\n",
           right, seconds, kernels, flops * 1e-9, peak * 1e-9, data.synthetic ? "true" : "false", prepared.graph,
           prepared.schedule, prepared.compile);
    return 0;
  }
  printf("%s: %.2f %% of %" PRId64 " %s\n", bold("test accuracy").c_str(), 100 * right, data.test.n(),
         data.synthetic ? "synthetic digits" : "images");
  printf("%" PRId64 " steps in %s (%.1f s), %" PRIu64 " kernels a step", at.step - first, minutes(seconds).c_str(),
         seconds, kernels);
  if (flops > 0) printf(", %.1f GFLOP/s", flops * 1e-9);
  if (flops > 0 && peak > 0) printf(", %.0f %% of this machine's %.0f", 100 * flops / peak, peak * 1e-9);
  printf(
      "\n\nTry next:\n"
      "  DEBUG=2 ingot train mnist --steps 3        each kernel: what it computes, its time and rate\n"
      "  DEBUG=4 ingot train mnist --steps 1        the machine code of every kernel\n");
  if (!o.save.empty())
    printf("  ingot train mnist --resume %s --steps %" PRId64 "   go on where this stopped\n", o.save.c_str(),
           o.steps + 100);
  return 0;
}

}  // namespace

int mnist_main(Arguments args) {
  Options o("ingot train mnist", args);
  Job t;
  t.steps = o.number("steps", 100, "stop at this step");
  t.batch = o.number("batch", 512, "images a step");
  t.channels = o.number("channels", 32, "of the first two convolutions; the others have twice as many");
  t.faults = o.number("faults", 0, "break the model of the chip so many times on the way (DEV=MODEL+...)");
  t.seed = o.number("seed", 1, "of the initial weights and of the order of the data");
  t.fault_seed = o.number("fault-seed", t.seed, "of which faults, and when");
  t.lr = o.real("lr", 1e-3, "learning rate");
  t.data = o.value("data", "",
                   "folder with MNIST's files, or synthetic; else INGOT_DATA, the cache, a download, drawn digits");
  t.save = o.value("save", cache_folder() + "/mnist.safetensors", "where the checkpoint goes; empty: nowhere");
  t.resume = o.value("resume", "", "go on from this checkpoint, as if it had never stopped");
  t.json = o.flag("json", "print one JSON object a step and one at the end");
  t.offline = o.flag("offline", "do not download");
  o.rest("", "Trains a convnet to read handwritten digits and saves it. Ctrl-C saves, too.", 0, 0);
  if (t.channels < 1 || t.faults < 0) throw UsageError("ingot train mnist: --channels is at least 1, --faults 0");
  if (t.steps < 1) throw UsageError("ingot train mnist: --steps is at least 1, got ", t.steps);
  return train(t);
}

}  // namespace ingot
