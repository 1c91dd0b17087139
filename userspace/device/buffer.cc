// SPDX-License-Identifier: MIT
// The one intrusive count of the tree: tensors, schedules and recordings share a Buffer through BufferRef; the last one
// gives the memory back to the device.
#include "userspace/device/device.h"

namespace ingot {
namespace {
std::atomic<i64> alive_bytes{0}, peak_bytes{0};
}  // namespace

i64 buffer_bytes() { return alive_bytes.load(std::memory_order_relaxed); }
i64 buffer_peak_bytes() { return peak_bytes.load(std::memory_order_relaxed); }

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
