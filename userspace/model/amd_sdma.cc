// SPDX-License-Identifier: MIT
// Copy engines: rings of SDMA packets. They read and write memory, not the shaders' L2, so what a shader wrote is there
// for them once it was written back. A count that a generation's field is too narrow for arrives truncated, as its
// driver made it. Errors halt the engine, raise their interrupt and say why.
#include "userspace/model/amd_model.h"

namespace ingot::model {
namespace {

constexpr i64 packets_per_us = 64;
template <class T>
constexpr i64 code = hw::layout_of<T>.code[0];

}  // namespace

AmdModel::Outcome AmdModel::halt(int number, CopyEngine& engine, std::string why, u64 source) {
  engine.halted = std::move(why);
  object(str("SDMA", number, " halted: ", engine.halted, " in ", engine.last.text(generation_)));
  interrupt({.client_id = IH_CLIENT::GFX, .source_id = source, .ring_id = u64(number)});
  return HALTED;
}

void AmdModel::run_engine(int number, i64 ns) {
  CopyEngine& engine = engines_[number];
  bool stopped = generation_ == GFX12 ? reg<SDMA0_MCU_CNTL>(number).halt : reg<SDMA0_F32_CNTL>(number).halt;
  auto control = reg<SDMA0_QUEUE0_RB_CNTL>(number);
  if (!firmware_running() || stopped || !control.rb_enable || !engine.halted.empty()) return;
  if (engine.streams.empty())
    engine.streams.push_back({.address = pair<SDMA0_QUEUE0_RB_BASE, SDMA0_QUEUE0_RB_BASE_HI>(number) << 8,
                              .at = pair<SDMA0_QUEUE0_RB_RPTR, SDMA0_QUEUE0_RB_RPTR_HI>(number) / 4,
                              .ring_dwords = u64(1) << control.rb_size,
                              .vmid = u32(control.rb_vmid)});
  if (engine.wptr % 4)
    return void(halt(number, engine,
                     str("write pointer ", hex(engine.wptr), " is not a number of bytes of whole dwords"),
                     IH_SOURCE::SDMA_QUEUE_HANG));
  engine.streams.front().end = engine.wptr / 4;
  u64 before = engine.streams.front().at;
  for (i64 budget = std::max<i64>(packets_per_us, ns * packets_per_us / 1000);
       budget > 0 && step(number, engine) == DONE; budget--) {}
  if (engine.streams.empty() || engine.streams.front().at == before) return;
  u64 rptr = engine.streams.front().at * 4;
  raw<SDMA0_QUEUE0_RB_RPTR>(number) = u32(rptr), raw<SDMA0_QUEUE0_RB_RPTR_HI>(number) = u32(rptr >> 32);
  u64 report = pair<SDMA0_QUEUE0_RB_RPTR_ADDR_LO, SDMA0_QUEUE0_RB_RPTR_ADDR_HI>(number) & ~u64(3);
  if (control.rptr_writeback_enable && report) access(SDMA_CLIENT, u32(control.rb_vmid), report, &rptr, 8, true);
}

AmdModel::Outcome AmdModel::step(int number, CopyEngine& engine) {
  auto hang = [&](std::string why) { return halt(number, engine, std::move(why), IH_SOURCE::SDMA_QUEUE_HANG); };
  while (engine.streams.size() > 1 && engine.streams.back().at >= engine.streams.back().end) engine.streams.pop_back();
  Stream& s = engine.streams.back();
  if (s.at >= s.end) return BLOCKED;
  if (s.ring_dwords && s.end - s.at > s.ring_dwords)
    return hang(str("the write pointer is ", s.end - s.at, " dwords ahead in a ring of ", s.ring_dwords));
  bool ok = true;
  u32 first = fetch(SDMA_CLIENT, s, s.at, ok);
  if (!ok) return halt(number, engine, "page fault reading packets", IH_SOURCE::SDMA_PAGE_FAULT);
  auto header = unpack32<SDMA_NOP>(first, generation_);
  const Layout* row = hw::find_code(rows, "SDMA", i64(header.op | header.sub_op << 8), generation_);
  if (!row) {
    engine.last = {nullptr, {first}};
    return hang("unknown packet");
  }
  u64 length = u64(row->dwords[generation_]);
  if (row == &layout_SDMA_NOP) length += header.count;
  if (row == &layout_SDMA_COPY_LINEAR && generation_ == GFX12 && unpack32<SDMA_COPY_LINEAR>(first, generation_).cpv)
    length++;
  auto need = [&](u64 n) { return s.end - s.at >= n; };
  if (!need(length)) return s.ring_dwords ? BLOCKED : hang("a packet reaches past its indirect buffer");
  std::vector<u32> words(size_t(row->dwords[generation_]));
  for (size_t i = 0; i < words.size(); i++) words[i] = fetch(SDMA_CLIENT, s, s.at + i, ok);
  if (!ok) return halt(number, engine, "page fault reading packets", IH_SOURCE::SDMA_PAGE_FAULT);
  engine.last = {row, words};
  for (u32 stray : stray_bits(*row, words, generation_))
    if (stray) return hang("reserved bits are set");
  u32 vmid = engine.streams.front().vmid;
  auto page_fault = [&] { return halt(number, engine, "page fault", IH_SOURCE::SDMA_PAGE_FAULT); };
  auto done = [&] { return s.at += length, DONE; };
  constexpr i64 chunk = 4096;
  switch (row->code[generation_]) {
    case code<SDMA_NOP>: return done();
    case code<SDMA_COPY_LINEAR>: {
      auto p = unpack<SDMA_COPY_LINEAR>(words, generation_);
      std::array<u8, chunk> buffer;
      for (u64 i = 0; i <= p.count; i += chunk) {
        i64 n = std::min<i64>(chunk, i64(p.count + 1 - i));
        if (!access(SDMA_CLIENT, vmid, p.src_addr + i, buffer.data(), n, false) ||
            !access(SDMA_CLIENT, vmid, p.dst_addr + i, buffer.data(), n, true))
          return page_fault();
      }
      return done();
    }
    case code<SDMA_WRITE_LINEAR>: {
      auto p = unpack<SDMA_WRITE_LINEAR>(words, generation_);
      length += p.count + 1;
      if (!need(length)) return s.ring_dwords ? BLOCKED : hang("a packet reaches past its indirect buffer");
      for (u64 i = 0; i <= p.count; i++) {
        u32 word = fetch(SDMA_CLIENT, s, s.at + 4 + i, ok);
        if (!ok || !access(SDMA_CLIENT, vmid, p.dst_addr + 4 * i, &word, 4, true)) return page_fault();
      }
      return done();
    }
    case code<SDMA_CONSTANT_FILL>: {
      auto p = unpack<SDMA_CONSTANT_FILL>(words, generation_);
      std::array<u8, chunk> buffer;
      u32 value = p.fillsize == SDMA_CONSTANT_FILL::DWORDS ? u32(p.src_data) : u32(u8(p.src_data)) * (~u32(0) / 255);
      for (size_t i = 0; i < chunk; i += 4) memcpy(&buffer[i], &value, 4);
      for (u64 i = 0; i <= p.count; i += chunk)
        if (!access(SDMA_CLIENT, vmid, p.dst_addr + i, buffer.data(), std::min<i64>(chunk, i64(p.count + 1 - i)), true))
          return page_fault();
      return done();
    }
    case code<SDMA_INDIRECT>: {
      auto p = unpack<SDMA_INDIRECT>(words, generation_);
      if ((s.at + length) % 8) return hang("an indirect packet that does not end on a multiple of 8 dwords");
      if (p.ib_base % 32) return hang("an indirect buffer that is not aligned to 32 bytes");
      if (engine.streams.size() > 1) return hang("an indirect buffer in an indirect buffer");
      s.at += length;
      engine.streams.push_back({.address = p.ib_base, .end = p.ib_size, .vmid = vmid});
      return DONE;
    }
    case code<SDMA_FENCE>: {
      auto p = unpack<SDMA_FENCE>(words, generation_);
      u32 value = u32(p.data);
      return access(SDMA_CLIENT, vmid, p.addr & ~u64(3), &value, 4, true) ? done() : page_fault();
    }
    case code<SDMA_TRAP>:
      if (reg<SDMA0_CNTL>(number).trap_enable)
        interrupt({.client_id = IH_CLIENT::GFX,
                   .source_id = IH_SOURCE::SDMA_TRAP,
                   .ring_id = u64(number),
                   .context_id0 = unpack<SDMA_TRAP>(words, generation_).int_context});
      return done();
    case code<SDMA_POLL_REGMEM>: {
      auto p = unpack<SDMA_POLL_REGMEM>(words, generation_);
      u32 value = 0;
      if (p.hdp_flush) flush_hdp();
      if (!p.mem_poll) {
        if (!find(p.addr / 4))
          return halt(number, engine, str("no register at byte ", hex(p.addr)), IH_SOURCE::SDMA_SRBMWRITE);
        value = read(p.addr / 4, false);
      } else if (!access(SDMA_CLIENT, vmid, p.addr & ~u64(3), &value, 4, false)) {
        return page_fault();
      }
      return compare(p.func, value & u32(p.mask), u32(p.value)) ? done() : BLOCKED;
    }
    case code<SDMA_TIMESTAMP_GET_GLOBAL>: {
      u64 value = u64(now_ns / 10);
      return access(SDMA_CLIENT, vmid, unpack<SDMA_TIMESTAMP_GET_GLOBAL>(words, generation_).write_addr << 3, &value, 8,
                    true)
                 ? done()
                 : page_fault();
    }
    case code<SDMA_SRBM_WRITE>: {
      auto p = unpack<SDMA_SRBM_WRITE>(words, generation_);
      u64 at = generation_ == GFX12 ? p.addr / 4 : p.addr;
      return write(at, u32(p.data), false)
                 ? done()
                 : halt(number, engine, str("no register at dword ", hex(at)), IH_SOURCE::SDMA_SRBMWRITE);
    }
    case code<SDMA_GCR_REQ>: cache_control(true, true, false, false, false); return done();
    default: return hang("this model does not take this packet");
  }
}

}  // namespace ingot::model
