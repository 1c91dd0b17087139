// SPDX-License-Identifier: MIT
// The memory of internal buffers: one allocation, offsets by lifetime. A buffer lives from the kernel that writes it
// first to the last that touches it; buffers are placed largest first at the lowest 64-byte aligned gap among those
// alive at the same time. Kernels run in order, so intervals of kernel numbers are all there is to know.
#include <algorithm>
#include "compiler/schedule/schedule.h"

namespace ingot {

void plan_memory(Schedule& schedule) {
  struct Life {
    size_t buffer;
    i64 bytes, first, last;
  };
  std::vector<Life> lives(schedule.internals.size());
  for (size_t i = 0; i < lives.size(); i++) {
    const InternalBuffer& b = schedule.internals[i];
    lives[i] = {i, (b.elements * b.dtype.bytes() + 63) / 64 * 64, i64(schedule.kernels.size()), -1};
  }
  for (size_t k = 0; k < schedule.kernels.size(); k++)
    for (const KernelBuffer& b : schedule.kernels[k].buffers) {
      if (b.internal < 0) continue;
      Life& life = lives[size_t(b.internal)];
      life.first = std::min(life.first, i64(k)), life.last = std::max(life.last, i64(k));
    }
  std::stable_sort(lives.begin(), lives.end(), [](const Life& a, const Life& b) { return a.bytes > b.bytes; });
  schedule.plan_bytes = 0;
  std::vector<std::pair<i64, i64>> busy;  // begin, end of what is placed and alive at the same time
  for (size_t i = 0; i < lives.size(); i++) {
    busy.clear();
    for (size_t j = 0; j < i; j++)
      if (lives[j].first <= lives[i].last && lives[i].first <= lives[j].last) {
        i64 begin = schedule.internals[lives[j].buffer].offset;
        busy.push_back({begin, begin + lives[j].bytes});
      }
    std::sort(busy.begin(), busy.end());
    i64 offset = 0;
    for (auto [begin, end] : busy) {
      if (begin >= offset + lives[i].bytes) break;
      offset = std::max(offset, end);
    }
    schedule.internals[lives[i].buffer].offset = offset;
    schedule.plan_bytes = std::max(schedule.plan_bytes, offset + lives[i].bytes);
  }
}

}  // namespace ingot
