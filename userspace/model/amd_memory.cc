// SPDX-License-Identifier: MIT
// The chip's memory: VRAM behind the host data path, the two hubs with their TLBs and page walks, and the caches.
//
// In strict mode nothing becomes visible by itself. What the host writes through BAR 0 stays in the host data path
// until it is flushed. A translation stays in its hub's TLB until that hub is told to drop it. What shaders write stays
// in the L2 until it is written back, and what they have read may be read again from their private caches until those
// are told to forget, even if memory has changed. A shader sees its own dispatch's writes: bytes that the running
// dispatch wrote bypass the private caches until it ends.
#include <sys/mman.h>
#include "userspace/model/amd_model.h"

namespace ingot::model {
namespace {

constexpr u64 page_bytes = 4096, line_bytes = 128;
constexpr u64 system_bit = u64(1) << 63;
constexpr int index_bits = 9;

// Calls f(page, offset in it, bytes, where in the data) for each page; stops when f returns false.
template <class F>
bool each_page(u64 address, i64 bytes, F f) {
  for (i64 done = 0; done < bytes;) {
    u64 offset = (address + u64(done)) % page_bytes;
    i64 n = std::min(bytes - done, i64(page_bytes - offset));
    if (!f(address + u64(done), offset, n, done)) return false;
    done += n;
  }
  return true;
}

}  // namespace

void AmdModel::memory_read(u64 offset, void* to, i64 bytes) {
  if (now_ns < reset_until_ns_ || offset + u64(bytes) > vram_bytes_) {
    memset(to, -1, size_t(bytes));
    return;
  }
  each_page(offset, bytes, [&](u64 at, u64 in_page, i64 n, i64 done) {
    u8* out = static_cast<u8*>(to) + done;
    memcpy(out, vram_ + at, size_t(n));
    auto p = hdp_.find(at / page_bytes);
    if (p != hdp_.end())
      for (i64 i = 0; i < n; i++)
        if (p->second.valid[in_page + u64(i)]) out[i] = p->second.data[in_page + u64(i)];
    return true;
  });
}
void AmdModel::memory_write(u64 offset, const void* from, i64 bytes) {
  if (now_ns < reset_until_ns_ || offset + u64(bytes) > vram_bytes_) return;
  if (!strict) {
    memcpy(vram_ + offset, from, size_t(bytes));
    return;
  }
  each_page(offset, bytes, [&](u64 at, u64 in_page, i64 n, i64 done) {
    CachePage& page = hdp_[at / page_bytes];
    memcpy(&page.data[in_page], static_cast<const u8*>(from) + done, size_t(n));
    for (i64 i = 0; i < n; i++) page.valid.set(in_page + u64(i));
    return true;
  });
}
void AmdModel::flush_hdp() {
  for (auto& [number, page] : hdp_)
    for (u64 i = 0; i < page_bytes; i++)
      if (page.valid[i]) vram_[number * page_bytes + i] = page.data[i];
  hdp_.clear();
}

// ---- translation ---------------------------------------------------------------------------------------------------
void AmdModel::invalidate_tlb(Hub hub, u32 vmids) {
  std::erase_if(tlb_[hub], [&](auto& entry) { return vmids >> (entry.first >> 52) & 1; });
  mapping_epoch++;
}

// Walks the tables of a context. On a fault `status` gets the fields of the fault's status register that the walk
// knows: walker_error is 1 + the level that failed (0 is PTB), permission bits come from translate().
std::optional<Translation> AmdModel::walk(Hub hub, u32 vmid, u64 address, u64& status) {
  using Status = VM_L2_PROTECTION_FAULT_STATUS;
  auto context = reg<VM_CONTEXT0_CNTL>(int(vmid), hub);
  u64 start = pair<VM_CONTEXT0_PAGE_TABLE_START_ADDR_LO32, VM_CONTEXT0_PAGE_TABLE_START_ADDR_HI32>(int(vmid), hub);
  u64 end = pair<VM_CONTEXT0_PAGE_TABLE_END_ADDR_LO32, VM_CONTEXT0_PAGE_TABLE_END_ADDR_HI32>(int(vmid), hub);
  u64 base = pair<VM_CONTEXT0_PAGE_TABLE_BASE_ADDR_LO32, VM_CONTEXT0_PAGE_TABLE_BASE_ADDR_HI32>(int(vmid), hub);
  int level = int(context.page_table_depth);
  auto failed = [&](int at) {
    status = pack32(Status{.walker_error = u64(at + 1)}, GFX11);
    return std::nullopt;
  };
  if (!context.enable_context || address / page_bytes < start || address / page_bytes > end) {
    status = pack32(Status{.mapping_error = 1}, GFX11);
    return std::nullopt;
  }
  u64 offset = address - start * page_bytes;
  if (offset >> (12 + index_bits * (level + 1))) return failed(level);  // the hole above what the tables cover
  PDE directory = unpack64<PDE>(base, generation_);
  for (;; level--) {
    if (!directory.valid) return failed(level + 1);
    u64 index = offset >> (12 + index_bits * level) & ((1 << index_bits) - 1), entry = 0;
    Translation table{.address = directory.address * page_bytes + index * 8, .system = directory.system != 0};
    if (!physical(table, &entry, 8, false)) return failed(level);
    PTE leaf = unpack64<PTE>(entry, generation_);
    directory = unpack64<PDE>(entry, generation_);
    // A directory entry is a leaf when marked so (gfx9: in PDB0, when not marked as a table); from gfx12 on, in PTB
    // too, only what is marked is a leaf.
    bool marked = leaf.pde_pte, huge = generation_ == GFX94 && level == 1 ? !leaf.tf : level > 0 && marked;
    if (level > 0 && !huge) continue;
    if (!leaf.valid || (generation_ == GFX12 && !marked)) return failed(level);
    u64 mask = (u64(1) << (12 + index_bits * level)) - 1;
    return Translation{.address = ((leaf.address * page_bytes & ~mask) | (offset & mask)) & ~(page_bytes - 1),
                       .system = leaf.system != 0,
                       .uncached = leaf.mtype == PTE::MTYPE_UC,
                       .readable = leaf.readable != 0,
                       .writeable = leaf.writeable != 0,
                       .executable = leaf.executable != 0};
  }
}

void AmdModel::fault(const Client& client, u32 vmid, u64 address, bool write, u64 status) {
  using Status = VM_L2_PROTECTION_FAULT_STATUS;
  Hub hub = client.hub;
  auto s = unpack32<Status>(u32(status), GFX11);
  s.cid = client.cid, s.rw = write, s.vmid = vmid;
  if (raw<Status>(0, hub)) {  // the first fault stays until it is cleared
    auto first = reg<Status>(0, hub);
    first.more_faults = 1;
    raw<Status>(0, hub) = pack32(first, generation_);
  } else {
    raw<Status>(0, hub) = pack32(s, generation_);
    raw<VM_L2_PROTECTION_FAULT_ADDR_LO32>(0, hub) = u32(address / page_bytes);
    raw<VM_L2_PROTECTION_FAULT_ADDR_HI32>(0, hub) = u32(address / page_bytes >> 32);
  }
  IH_ENTRY entry{
      .client_id = hub == GFXHUB ? IH_CLIENT::GFX : IH_CLIENT::VMC, .source_id = IH_SOURCE::UTCL2_FAULT, .vmid = vmid};
  entry.context_id0 = u32(address / page_bytes), entry.context_id1 = u32(address / page_bytes >> 32) & 15;
  if (client.hub != MMHUB_HUB || client.cid != IH_MEMORY.cid) interrupt(entry);
}

// VMID 0 reaches VRAM without tables inside of the system aperture.
const AmdModel::Aperture& AmdModel::aperture(Hub hub) {
  Aperture& a = aperture_[hub];
  if (a.known) return a;
  a.known = true;
  a.enabled = reg<MC_VM_MX_L1_TLB_CNTL>(0, hub).system_access_mode == 3;
  a.low = u64(raw<MC_VM_SYSTEM_APERTURE_LOW_ADDR>(0, hub)) << 18;
  a.high = (u64(raw<MC_VM_SYSTEM_APERTURE_HIGH_ADDR>(0, hub)) + 1) << 18;
  a.frame = u64(reg<MC_VM_FB_LOCATION_BASE>(0, hub).fb_base) << 24;
  return a;
}

std::optional<Translation> AmdModel::translate(const Client& client, u32 vmid, u64 address, hw::Access kind,
                                               bool quiet) {
  using Status = VM_L2_PROTECTION_FAULT_STATUS;
  bool write = kind == hw::Access::WRITE;
  if (fault_next_ && (client.cid == TCP.cid || client.cid == SQC_DATA.cid) && client.hub == GFXHUB) {
    fault_next_ = false;
    fault(client, vmid, address, write, pack32(Status{.walker_error = 1}, GFX11));
    return std::nullopt;
  }
  const Aperture& a = aperture(client.hub);
  if (vmid == 0 && a.enabled && address >= a.low && address < a.high && address >= a.frame &&
      address - a.frame < vram_bytes_)
    return Translation{
        .address = (address - a.frame) & ~(page_bytes - 1), .readable = true, .writeable = true, .executable = true};
  u64 key = u64(vmid) << 52 | (address / page_bytes & ((u64(1) << 52) - 1));
  u64 status = 0;
  auto hit = tlb_[client.hub].find(key);
  std::optional<Translation> t;
  if (address >> 48) {  // only 48 bits are translated
    status = pack32(Status{.mapping_error = 1}, GFX11);
  } else if (hit != tlb_[client.hub].end()) {
    t = hit->second;
  } else if ((t = walk(client.hub, vmid, address, status))) {
    tlb_[client.hub].emplace(key, *t);
  }
  if (t) {
    bool allowed = kind == hw::Access::FETCH ? t->executable : write ? t->writeable : t->readable;
    if (allowed) return t;
    status = pack32(Status{.permission_faults = u64(kind == hw::Access::FETCH ? 8 : write ? 4 : 2)}, GFX11);
  }
  if (!quiet) fault(client, vmid, address, write, status);
  return std::nullopt;
}

// ---- access --------------------------------------------------------------------------------------------------------
bool AmdModel::physical(const Translation& t, void* data, i64 bytes, bool write) {
  if (t.system) return dma(t.address, data, bytes, write);
  if (t.address > vram_bytes_ || u64(bytes) > vram_bytes_ - t.address) return false;
  write ? memcpy(vram_ + t.address, data, size_t(bytes)) : memcpy(data, vram_ + t.address, size_t(bytes));
  return true;
}

bool AmdModel::through_l2(const Translation& t, void* data, i64 bytes, bool write) {
  if (!strict || t.uncached) return physical(t, data, bytes, write);
  u64 offset = t.address % page_bytes;
  CachePage& page = l2_[t.address / page_bytes | (t.system ? system_bit : 0)];
  u8* bytes_at = static_cast<u8*>(data);
  if (write) {
    memcpy(&page.data[offset], data, size_t(bytes));
    for (i64 i = 0; i < bytes; i++) page.valid.set(offset + u64(i)), page.dirty.set(offset + u64(i));
    return true;
  }
  for (u64 i = offset; i < offset + u64(bytes); i++) {
    if (page.valid[i]) continue;
    u64 line = i / line_bytes * line_bytes;
    std::array<u8, line_bytes> fill;
    Translation at = t;
    at.address = t.address / page_bytes * page_bytes + line;
    if (!physical(at, fill.data(), line_bytes, false)) return false;
    for (u64 b = 0; b < line_bytes; b++)
      if (!page.valid[line + b]) page.data[line + b] = fill[b], page.valid.set(line + b);
  }
  memcpy(bytes_at, &page.data[offset], size_t(bytes));
  return true;
}
void AmdModel::write_back_l2() {
  for (auto& [key, page] : l2_) {
    if (page.dirty.none()) continue;
    for (u64 i = 0; i < page_bytes; i++) {
      if (!page.dirty[i]) continue;
      u64 n = 1;
      while (i + n < page_bytes && page.dirty[i + n]) n++;
      physical({.address = (key & ~system_bit) * page_bytes + i, .system = (key & system_bit) != 0}, &page.data[i],
               i64(n), true);
      i += n;
    }
    page.dirty.reset();
  }
}
void AmdModel::invalidate_l2() {  // what is dirty stays: dropping it would lose data
  for (auto& [key, page] : l2_) page.valid &= page.dirty;
  std::erase_if(l2_, [](const auto& entry) { return entry.second.valid.none(); });
}
void AmdModel::end_of_dispatch() {
  for (Cache* cache : {&vector_, &scalar_})
    for (auto& [key, page] : *cache) page.bypass.reset();
}

bool AmdModel::access(const Client& client, u32 vmid, u64 address, void* data, i64 bytes, bool write, bool cached) {
  return each_page(address, bytes, [&](u64 at, u64 offset, i64 n, i64 done) {
    auto t = translate(client, vmid, at, write ? hw::Access::WRITE : hw::Access::READ);
    if (!t) return false;
    t->address += offset;
    u8* part = static_cast<u8*>(data) + done;
    if (cached ? through_l2(*t, part, n, write) : physical(*t, part, n, write)) return true;
    // A translated address that nothing answers is a fault of the walk's target.
    fault(client, vmid, at, write, pack32(VM_L2_PROTECTION_FAULT_STATUS{.mapping_error = 1}, GFX11));
    return false;
  });
}

bool ShaderMemory::access(hw::Access kind, u64 address, void* data, i64 bytes) {
  using hw::Access;
  const Client& client = kind == Access::FETCH ? SQC_INST : kind == Access::SCALAR_READ ? SQC_DATA : TCP;
  bool write = kind == Access::WRITE;
  if (u8* at = direct(kind, address, bytes)) {
    write ? memcpy(at, data, size_t(bytes)) : memcpy(data, at, size_t(bytes));
    return true;
  }
  return each_page(address, bytes, [&](u64 at, u64 offset, i64 n, i64 done) {
    auto t = chip_.translate(client, vmid_, at, kind);
    if (!t) return false;
    t->address += offset;
    u8* part = static_cast<u8*>(data) + done;
    if (!chip_.strict || t->uncached || kind == Access::SHARED_READ) return chip_.through_l2(*t, part, n, write);
    u64 key = t->address / page_bytes | (t->system ? system_bit : 0);
    if (write) {
      for (Cache* cache : {&chip_.vector_, &chip_.scalar_})
        if (auto p = cache->find(key); p != cache->end() || cache == &chip_.vector_)
          for (i64 i = 0; i < n; i++) (*cache)[key].bypass.set(offset + u64(i));
      return chip_.through_l2(*t, part, n, true);
    }
    Cache& cache = kind == Access::FETCH         ? chip_.instruction_
                   : kind == Access::SCALAR_READ ? chip_.scalar_
                                                 : chip_.vector_;
    CachePage& page = cache[key];
    std::array<u8, page_bytes> shared;
    if (!chip_.through_l2(*t, shared.data(), n, false)) return false;
    for (i64 i = 0; i < n; i++) {
      u64 b = offset + u64(i);
      if (page.bypass[b]) {
        part[i] = shared[size_t(i)];
        continue;
      }
      if (!page.valid[b]) page.data[b] = shared[size_t(i)], page.valid.set(b);
      part[i] = page.data[b];
    }
    return true;
  });
}
// What a page was the last time it was asked for, while nothing has changed that could make it another one.
u8* ShaderMemory::direct(hw::Access kind, u64 address, i64 bytes) {
  u64 offset = address % page_bytes, number = address / page_bytes;
  if (chip_.strict || chip_.fault_next_ || offset + u64(bytes) > page_bytes) return nullptr;
  Recent& recent = recent_[number % recent_.size()];
  u8 need = u8(1) << u8(kind);
  if (recent.page != number || recent.epoch != chip_.mapping_epoch) recent = {number, chip_.mapping_epoch, nullptr, 0};
  if (!(recent.kinds & need)) {
    auto t = chip_.translate(kind == hw::Access::FETCH ? SQC_INST : TCP, vmid_, address, kind, true);
    if (!t) return nullptr;
    u8* host = t->system ? chip_.dma_pointer(t->address, page_bytes, kind == hw::Access::WRITE)
               : t->address + page_bytes <= chip_.vram_bytes_ ? chip_.vram_ + t->address
                                                              : nullptr;
    if (!host) return nullptr;
    recent.host = host, recent.kinds |= need;
  }
  return recent.host + offset;
}
void ShaderMemory::invalidate(bool scalar, bool vector, bool instruction) {
  chip_.cache_control(false, false, vector, scalar, instruction);
}

}  // namespace ingot::model
