// SPDX-License-Identifier: MIT
// The one intrusive count of the tree: tensors, schedules and recordings share a Buffer through BufferRef; the last one
// gives the memory back to the device. And what devices have from Device: copies between any two, a plain list of
// launches as a step.
#include <algorithm>
#include "userspace/device/device.h"

namespace ingot {
namespace {
std::atomic<i64> alive_bytes{0}, peak_bytes{0};
}  // namespace

i64 buffer_bytes() { return alive_bytes.load(std::memory_order_relaxed); }
i64 buffer_peak_bytes() { return peak_bytes.load(std::memory_order_relaxed); }

void copy_between(Buffer& to, i64 to_offset, const Buffer& from, i64 from_offset, i64 bytes) {
  if (from.host) {
    from.device.wait();
    return to.device.copy_in(to, to_offset, static_cast<const u8*>(from.host) + from_offset, bytes);
  }
  if (to.host) {
    to.device.wait();
    return from.device.copy_out(static_cast<u8*>(to.host) + to_offset, from, from_offset, bytes);
  }
  constexpr i64 most = 4 << 20;
  std::vector<u8> part(size_t(std::min(most, bytes)));
  for (i64 at = 0; at < bytes; at += most) {
    i64 n = std::min(most, bytes - at);
    from.device.copy_out(part.data(), from, from_offset + at, n);
    to.device.copy_in(to, to_offset + at, part.data(), n);
  }
}

namespace {
struct LaunchList final : Step {
  LaunchList(Device& d, std::span<const Launch> l) : device(d), launches(l) {}
  Device& device;
  std::span<const Launch> launches;
  void run() override { device.run(launches); }
};
}  // namespace
std::unique_ptr<Step> Device::prepare(std::span<const Launch> launches, std::span<void* const* const>) {
  return std::make_unique<LaunchList>(*this, launches);
}

Buffer* Device::make_buffer(Device& device, i64 bytes) {
  i64 now = alive_bytes.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  for (i64 peak = peak_bytes.load(std::memory_order_relaxed); peak < now;)
    if (peak_bytes.compare_exchange_weak(peak, now, std::memory_order_relaxed)) break;
  return new Buffer(device, bytes);
}

BufferRef::BufferRef(Buffer* b) : buffer_(b) {
  if (b) b->count_.fetch_add(1, std::memory_order_relaxed);
}
BufferRef::~BufferRef() {
  if (!buffer_ || buffer_->count_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  alive_bytes.fetch_sub(buffer_->bytes, std::memory_order_relaxed);
  buffer_->device.free(*buffer_);
  delete buffer_;
}

}  // namespace ingot
