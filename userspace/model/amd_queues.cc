// SPDX-License-Identifier: MIT
// Compute queues: the micro engine that reads PM4 from a ring whose registers (HQD) a driver has programmed, and the
// dispatches that it starts.
//
// A queue reads packets up to its write pointer and runs each when it can: a wait blocks the queue until time has
// passed, an error halts it, raises its interrupt and says why. A dispatch does not end where it starts: until a packet
// waits for it (CS_PARTIAL_FLUSH, RELEASE_MEM) it may run at any time, and in strict mode pending dispatches run last
// come first, so that a missing wait shows. Nothing that a ring contains may do more than that: every length and
// address is checked, and bits that no field has are an error as on the chip.
#include "userspace/model/amd_model.h"

namespace ingot::model {
namespace {

template <class T>
constexpr i64 code = hw::layout_of<T>.code[0];
constexpr i64 packets_per_us = 64;
constexpr i64 instructions_per_ns = 400;
constexpr u64 max_indirect_depth = 4;

}  // namespace

AmdModel::Outcome AmdModel::halt(Queue& queue, std::string why, u64 source) {
  queue.halted = std::move(why);
  object(str("queue ", queue.bank - 1, " halted: ", queue.halted, " in ", queue.last.text(generation_)));
  interrupt({.client_id = IH_CLIENT::GRBM_CP, .source_id = source, .ring_id = queue.bank - 1});
  return HALTED;
}

void AmdModel::activate(u32 bank) {
  Queue& queue = queues_[bank];
  queue = {};
  queue.bank = bank;
  auto control = reg<CP_HQD_PQ_CONTROL>(0, 0, bank);
  Stream ring{.address = pair<CP_HQD_PQ_BASE, CP_HQD_PQ_BASE_HI>(0, 0, bank) << 8,
              .at = raw<CP_HQD_PQ_RPTR>(0, 0, bank),
              .ring_dwords = u64(2) << std::min<u64>(control.queue_size, 30),
              .vmid = u32(reg<CP_HQD_VMID>(0, 0, bank).vmid)};
  queue.streams.push_back(ring);
  queue.memory = std::make_unique<ShaderMemory>(*this, ring.vmid);
  auto select = reg<GRBM_GFX_CNTL>();
  if (select.meid != 1 && select.meid != 2)
    halt(queue, "no compute engine is selected in GRBM_GFX_CNTL", IH_SOURCE::CP_GPF);
  u32 word = 0;
  u64 mqd = pair<CP_MQD_BASE_ADDR, CP_MQD_BASE_ADDR_HI>(0, 0, bank);
  if (!access(CPC, 0, mqd, &word, 4, false))
    halt(queue, str("its MQD at ", hex(mqd), " cannot be read"), IH_SOURCE::CP_GPF);
}

u32 AmdModel::fetch(const Client& client, const Stream& s, u64 at, bool& ok) {
  u32 word = 0;
  u64 index = s.ring_dwords ? at % s.ring_dwords : at;
  ok = ok && access(client, s.vmid, s.address + index * 4, &word, 4, false);
  return word;
}

void AmdModel::run_queue(Queue& queue, i64 ns) {
  auto mec = unpack32<CP_MEC_RS64_CNTL>(raw<CP_MEC_RS64_CNTL>(), GFX11);
  if (!firmware_running() || mec.mec_halt || !mec.mec_pipe0_active || mec.mec_pipe0_reset) return;
  u32 request = u32(reg<CP_HQD_DEQUEUE_REQUEST>(0, 0, queue.bank).dequeue_req);
  queue.budget = std::max<i64>(ns, 1) * instructions_per_ns;
  if (request == 2 || (request == 1 && run_dispatches(queue))) {  // 1 drains, 2 kills
    raw<CP_HQD_ACTIVE>(0, 0, queue.bank) = raw<CP_HQD_DEQUEUE_REQUEST>(0, 0, queue.bank) = 0;
    queue.streams.clear(), queue.pending.clear(), queue.running = false;
    queue.halted = "dequeued";
    return;
  }
  if (request || !queue.halted.empty() || queue.streams.empty()) return;
  queue.streams.front().end = pair<CP_HQD_PQ_WPTR_LO, CP_HQD_PQ_WPTR_HI>(0, 0, queue.bank);
  u64 before = queue.streams.front().at;
  for (i64 budget = std::max<i64>(packets_per_us, ns * packets_per_us / 1000); budget > 0 && step(queue) == DONE;
       budget--) {}
  if (queue.streams.empty()) return;
  if (queue.streams.size() == 1 && queue.streams.front().at == queue.streams.front().end) run_dispatches(queue);
  Stream& ring = queue.streams.front();
  u64 report = pair<CP_HQD_PQ_RPTR_REPORT_ADDR, CP_HQD_PQ_RPTR_REPORT_ADDR_HI>(0, 0, queue.bank);
  if (ring.at != before && report && !reg<CP_HQD_PQ_CONTROL>(0, 0, queue.bank).no_update_rptr) {
    u32 rptr = u32(ring.at % ring.ring_dwords);
    access(CPF, ring.vmid, report, &rptr, 4, true);
  }
}

AmdModel::Outcome AmdModel::step(Queue& queue) {
  while (queue.streams.size() > 1 && queue.streams.back().at >= queue.streams.back().end) queue.streams.pop_back();
  Stream& s = queue.streams.back();
  if (s.at >= s.end) return BLOCKED;
  if (s.ring_dwords && s.end - s.at > s.ring_dwords)
    return halt(queue, str("the write pointer is ", s.end - s.at, " dwords ahead in a ring of ", s.ring_dwords),
                IH_SOURCE::CP_GPF);
  bool ok = true;
  u32 first = fetch(CPF, s, s.at, ok);
  if (!ok) return halt(queue, str("page fault at ", hex(s.address + s.at * 4), " reading packets"), IH_SOURCE::CP_GPF);
  auto header = unpack32<PM4_HEADER>(first, generation_);
  if (header.type != PM4_HEADER::TYPE3) {
    queue.last = {nullptr, {first}};
    return halt(queue, "not a packet of type 3", IH_SOURCE::CP_BAD_OPCODE_ERROR);
  }
  bool nop = header.opcode == u64(code<NOP>);
  u64 count = nop && header.count == PM4_HEADER::HEADER_ONLY ? 0 : header.count + 1;
  if (s.end - s.at < 1 + count) {
    if (s.ring_dwords) return BLOCKED;  // the rest of it may come
    return halt(queue, "a packet reaches past the end of its indirect buffer", IH_SOURCE::CP_PM4_PKT_RSVD_BIT_ERROR);
  }
  std::vector<u32> body(size_t(nop ? 0 : count));
  for (size_t i = 0; i < body.size(); i++) body[i] = fetch(CPF, s, s.at + 1 + i, ok);
  if (!ok) return halt(queue, str("page fault reading packets near ", hex(s.address + s.at * 4)), IH_SOURCE::CP_GPF);
  const Layout* row = hw::find_code(rows, "PM4", i64(header.opcode), generation_);
  if (!row) {
    queue.last = {nullptr, {first}};
    return halt(queue, "unknown opcode", IH_SOURCE::CP_BAD_OPCODE_ERROR);
  }
  size_t fixed = size_t(row->dwords[generation_]);
  queue.last = {row, {body.begin(), body.begin() + i64(std::min(fixed, body.size()))}};
  bool tail = row == &layout_WRITE_DATA || row == &layout_NOP || row == &layout_SET_SH_REG ||
              row == &layout_SET_UCONFIG_REG || row == &layout_SET_CONFIG_REG || row == &layout_SET_CONTEXT_REG;
  if (tail ? body.size() < fixed : body.size() != fixed)
    return halt(queue, str("its length is ", body.size(), " dwords, not ", fixed),
                IH_SOURCE::CP_PM4_PKT_RSVD_BIT_ERROR);
  for (u32 stray : stray_bits(*row, queue.last.words, generation_))
    if (stray) return halt(queue, "reserved bits are set", IH_SOURCE::CP_PM4_PKT_RSVD_BIT_ERROR);
  u64 next = s.at + 1 + count;
  size_t depth = queue.streams.size() - 1;
  Outcome outcome = packet(queue, u32(header.opcode), body, next);
  if (outcome == DONE) queue.streams[depth].at = next;
  return outcome;
}

void AmdModel::cache_control(bool l2_wb, bool l2_inv, bool vector_inv, bool scalar_inv, bool instruction_inv) {
  if (l2_wb) write_back_l2();
  if (l2_inv) invalidate_l2();
  if (vector_inv) vector_.clear();
  if (scalar_inv) scalar_.clear();
  if (instruction_inv) instruction_.clear();
}

bool AmdModel::compare(u64 function, u32 value, u32 reference) const {
  switch (function) {
    case WAIT_FUNCTION::ALWAYS: return true;
    case WAIT_FUNCTION::LESS: return value < reference;
    case WAIT_FUNCTION::LESS_EQUAL: return value <= reference;
    case WAIT_FUNCTION::EQUAL: return value == reference;
    case WAIT_FUNCTION::NOT_EQUAL: return value != reference;
    case WAIT_FUNCTION::GREATER_EQUAL: return value >= reference;
    case WAIT_FUNCTION::GREATER: return value > reference;
    default: return false;
  }
}

AmdModel::Outcome AmdModel::set_registers(Queue& queue, u64 window, u64 end, std::span<const u32> body) {
  u64 at = window + unpack<SET_SH_REG>(body, generation_).reg_offset, n = body.size() - 1;
  if (at + n > end)
    return halt(queue, str(n, " registers at ", hex(at), " reach out of the window"),
                IH_SOURCE::CP_PM4_PKT_RSVD_BIT_ERROR);
  for (u64 i = 0; i < n; i++) {
    const Known* known = find(at + i);
    if (!known)
      return halt(queue, str("no register at dword ", hex(at + i), ", ", where_is(at + i)),
                  IH_SOURCE::CP_PRIV_REG_FAULT);
    u32 bank = known->bank == Known::QUEUE ? queue.bank : 0;
    cells_[(at + i) | u64(bank) << 40] = body[1 + i];
  }
  return DONE;
}

AmdModel::Outcome AmdModel::packet(Queue& queue, u32 opcode, std::span<const u32> body, u64& next) {
  u32 vmid = queue.streams.front().vmid;
  auto no_register = [&](u64 at) {
    return halt(queue, str("no register at dword ", hex(at), ", ", where_is(at)), IH_SOURCE::CP_PRIV_REG_FAULT);
  };
  auto page_fault = [&](u64 at) { return halt(queue, str("page fault at ", hex(at)), IH_SOURCE::CP_GPF); };
  auto reserved = [&](std::string why) { return halt(queue, std::move(why), IH_SOURCE::CP_PM4_PKT_RSVD_BIT_ERROR); };
  switch (opcode) {
    case code<NOP>: return DONE;
    case code<SET_SH_REG>: return set_registers(queue, REG_WINDOW::SH, REG_WINDOW::SH_END, body);
    case code<SET_UCONFIG_REG>: return set_registers(queue, REG_WINDOW::UCONFIG, REG_WINDOW::UCONFIG_END, body);
    case code<SET_CONFIG_REG>: return set_registers(queue, REG_WINDOW::CONFIG, REG_WINDOW::CONFIG_END, body);
    case code<WRITE_DATA>: {
      auto p = unpack<WRITE_DATA>(body, generation_);
      std::span<const u32> data = body.subspan(3);
      u64 step_dwords = p.wr_one_addr ? 0 : 1;
      for (size_t i = 0; i < data.size(); i++) {
        u32 word = data[i];
        if (p.dst_sel == WRITE_DATA::REGISTER) {
          if (!write(p.address + i * step_dwords, word, false)) return no_register(p.address + i * step_dwords);
        } else if (p.dst_sel == WRITE_DATA::MEMORY || p.dst_sel == WRITE_DATA::L2 ||
                   p.dst_sel == WRITE_DATA::MEMORY_SYNC) {
          u64 at = p.address + 4 * i * step_dwords;
          if (!access(CPC, vmid, at, &word, 4, true, p.dst_sel == WRITE_DATA::L2)) return page_fault(at);
        } else {
          return reserved("unknown dst_sel");
        }
      }
      return DONE;
    }
    case code<COPY_DATA>: {
      auto p = unpack<COPY_DATA>(body, generation_);
      u64 value = 0;
      i64 bytes = p.count_sel ? 8 : 4;
      switch (p.src_sel) {
        case COPY_DATA::SRC_REGISTER:
          for (int i = 0; i < bytes / 4; i++) {
            if (!find(p.src + u64(i))) return no_register(p.src + u64(i));
            value |= u64(read(p.src + u64(i), false)) << (32 * i);
          }
          break;
        case COPY_DATA::SRC_MEMORY:
        case COPY_DATA::SRC_L2:
          if (!access(CPC, vmid, p.src, &value, bytes, false, p.src_sel == COPY_DATA::SRC_L2)) return page_fault(p.src);
          break;
        case COPY_DATA::IMMEDIATE: value = p.src; break;
        case COPY_DATA::GPU_CLOCK_COUNT:
        case COPY_DATA::SYSTEM_CLOCK_COUNT: value = u64(now_ns / 10); break;
        default: return reserved("unknown src_sel");
      }
      if (p.dst_sel == COPY_DATA::DST_REGISTER) {
        for (int i = 0; i < bytes / 4; i++)
          if (!write(p.dst + u64(i), u32(value >> (32 * i)), false)) return no_register(p.dst + u64(i));
        return DONE;
      }
      if (p.dst_sel != COPY_DATA::DST_MEMORY && p.dst_sel != COPY_DATA::DST_L2) return reserved("unknown dst_sel");
      return access(CPC, vmid, p.dst, &value, bytes, true, p.dst_sel == COPY_DATA::DST_L2) ? DONE : page_fault(p.dst);
    }
    case code<WAIT_REG_MEM>: {
      auto p = unpack<WAIT_REG_MEM>(body, generation_);
      u32 value = 0;
      if (p.operation == WAIT_REG_MEM::WRITE_WAIT_WRITE) {
        u64 written_to = u32(p.address), polled = p.address >> 32;
        if (!find(polled)) return no_register(polled);
        if (!write(written_to, u32(p.reference), false)) return no_register(written_to);
        value = read(polled, false);
      } else if (p.memspace == WAIT_REG_MEM::MEMORY) {
        if (!access(CPC, vmid, p.address & ~u64(3), &value, 4, false)) return page_fault(p.address);
      } else {
        if (!find(p.address)) return no_register(p.address);
        value = read(p.address, false);
      }
      return compare(p.function, value & u32(p.mask), u32(p.reference)) ? DONE : BLOCKED;
    }
    case code<ACQUIRE_MEM>: {
      auto p = unpack<ACQUIRE_MEM>(body, generation_);
      if (generation_ == GFX94)
        cache_control(p.tc_wb_action_ena, p.tc_action_ena, p.tcl1_action_ena, p.sh_kcache_action_ena,
                      p.sh_icache_action_ena);
      else
        cache_control(p.gl2_wb, p.gl2_inv, p.glv_inv && (p.gl1_inv || generation_ == GFX12), p.glk_inv, p.gli_inv);
      return DONE;
    }
    case code<EVENT_WRITE>: {
      auto p = unpack<EVENT_WRITE>(body, generation_);
      if (p.event_type == EVENT_TYPE::CS_PARTIAL_FLUSH && p.event_index != EVENT_WRITE::PARTIAL_FLUSH)
        return reserved("CS_PARTIAL_FLUSH has event index 4");
      if (p.event_type != EVENT_TYPE::CS_PARTIAL_FLUSH) return DONE;
      return run_dispatches(queue) ? DONE : queue.halted.empty() ? BLOCKED : HALTED;
    }
    case code<RELEASE_MEM>: {
      if (!run_dispatches(queue)) return queue.halted.empty() ? BLOCKED : HALTED;
      auto p = unpack<RELEASE_MEM>(body, generation_);
      if (!pair<CP_HQD_EOP_BASE_ADDR, CP_HQD_EOP_BASE_ADDR_HI>(0, 0, queue.bank))
        return halt(queue, "the queue has no end-of-pipe buffer (CP_HQD_EOP_BASE_ADDR)", IH_SOURCE::CP_GPF);
      if (generation_ == GFX94)
        cache_control(p.tc_wb_action_ena, p.tc_action_ena, p.tcl1_action_ena, false, false);
      else
        cache_control(p.gl2_wb, p.gl2_inv, p.glv_inv && (p.gl1_inv || generation_ == GFX12), p.glk_inv, false);
      u64 value = p.data_sel == RELEASE_MEM::GPU_CLOCK_COUNT || p.data_sel == RELEASE_MEM::SYSTEM_CLOCK_COUNT
                      ? u64(now_ns / 10)
                      : p.data;
      i64 bytes = p.data_sel == RELEASE_MEM::DISCARD ? 0 : p.data_sel == RELEASE_MEM::DATA_32 ? 4 : 8;
      if (p.data_sel > RELEASE_MEM::SYSTEM_CLOCK_COUNT) return reserved("unknown data_sel");
      if (p.address % u64(std::max<i64>(bytes, 1))) return reserved("the address is not aligned");
      if (bytes && !access(CPC, vmid, p.address, &value, bytes, true, p.dst_sel == RELEASE_MEM::L2))
        return page_fault(p.address);
      if (p.int_sel == RELEASE_MEM::INTERRUPT_ONLY || p.int_sel == RELEASE_MEM::INTERRUPT_AFTER_WRITE)
        interrupt({.client_id = IH_CLIENT::GRBM_CP,
                   .source_id = IH_SOURCE::CP_EOP_INTERRUPT,
                   .ring_id = queue.bank - 1,
                   .vmid = vmid,
                   .context_id0 = p.int_ctxid});
      return DONE;
    }
    case code<INDIRECT_BUFFER>: {
      auto p = unpack<INDIRECT_BUFFER>(body, generation_);
      if (!p.valid) return reserved("an indirect buffer without its valid bit");
      if (p.ib_vmid && p.ib_vmid != vmid)
        return halt(queue, "an indirect buffer of another VMID", IH_SOURCE::CP_PRIV_INSTR_FAULT);
      if (queue.streams.size() >= max_indirect_depth && !p.chain)
        return halt(queue, "indirect buffers nested too deep", IH_SOURCE::CP_GPF);
      Stream ib{.address = p.address & ~u64(3), .end = p.ib_size, .vmid = vmid};
      if (p.chain && queue.streams.size() > 1) {
        queue.streams.back() = ib;
        next = 0;
      } else {
        queue.streams.push_back(ib);
      }
      return DONE;
    }
    case code<PRED_EXEC>:  // gates nothing in a ring; in an indirect buffer, what is not for XCC 0
    case code<COND_EXEC>: {
      if (queue.streams.size() == 1) return object("PRED_EXEC in a ring gates nothing"), DONE;
      auto pred = unpack<PRED_EXEC>(body, generation_);
      auto cond = unpack<COND_EXEC>(body, generation_);
      u64 skip = pred.device_select & 1 ? 0 : pred.exec_count;
      if (opcode == code<COND_EXEC>) {
        u32 value = 0;
        if (!access(CPC, vmid, cond.address & ~u64(3), &value, 4, false)) return page_fault(cond.address);
        skip = value ? 0 : cond.exec_count;
      }
      next += skip;
      return DONE;
    }
    case code<DISPATCH_DIRECT>: {
      auto p = unpack<DISPATCH_DIRECT>(body, generation_);
      return dispatch(queue, {u32(p.dim_x), u32(p.dim_y), u32(p.dim_z)}, u32(p.dispatch_initiator));
    }
    case code<DISPATCH_INDIRECT>: {
      auto p = unpack<DISPATCH_INDIRECT>(body, generation_);
      u32 groups[3];
      if (!access(CPC, vmid, p.address & ~u64(3), groups, 12, false)) return page_fault(p.address);
      return dispatch(queue, groups, u32(p.dispatch_initiator));
    }
    default:
      return halt(queue, "this packet is not one that a compute queue of this model takes",
                  IH_SOURCE::CP_BAD_OPCODE_ERROR);
  }
}

AmdModel::Outcome AmdModel::dispatch(Queue& queue, const u32 (&groups)[3], u32 initiator_word) {
  auto initiator = unpack32<COMPUTE_DISPATCH_INITIATOR>(initiator_word, generation_);
  u32 b = queue.bank;
  hw::Dispatch d;
  std::copy(groups, groups + 3, d.groups);
  if (!initiator.compute_shader_en) return object("a dispatch without compute_shader_en does nothing"), DONE;
  if (!initiator.force_start_at_000)
    d.first[0] = raw<COMPUTE_START_X>(0, 0, b), d.first[1] = raw<COMPUTE_START_Y>(0, 0, b),
    d.first[2] = raw<COMPUTE_START_Z>(0, 0, b);
  d.threads[0] = u32(reg<COMPUTE_NUM_THREAD_X>(0, 0, b).num_thread_full);
  d.threads[1] = u32(reg<COMPUTE_NUM_THREAD_Y>(0, 0, b).num_thread_full);
  d.threads[2] = u32(reg<COMPUTE_NUM_THREAD_Z>(0, 0, b).num_thread_full);
  u64 threads = u64(d.threads[0]) * d.threads[1] * d.threads[2];
  if (!threads || threads > 1024)
    return halt(queue, str("a work-group of ", threads, " work-items"), IH_SOURCE::CP_GPF);
  if (initiator.use_thread_dimensions)
    for (int i = 0; i < 3; i++) d.groups[i] = (d.groups[i] + d.threads[i] - 1) / d.threads[i];
  d.entry = pair<COMPUTE_PGM_LO, COMPUTE_PGM_HI>(0, 0, b) << 8;
  d.rsrc[0] = raw<COMPUTE_PGM_RSRC1>(0, 0, b), d.rsrc[1] = raw<COMPUTE_PGM_RSRC2>(0, 0, b),
  d.rsrc[2] = raw<COMPUTE_PGM_RSRC3>(0, 0, b);
  for (int i = 0; i < 16; i++) d.user_data[i] = raw<COMPUTE_USER_DATA_0>(i, 0, b);
  d.wave32 = generation_ != GFX94 && initiator.cs_w32_en;
  auto tmpring = reg<COMPUTE_TMPRING_SIZE>(0, 0, b);
  d.scratch_base = pair<COMPUTE_DISPATCH_SCRATCH_BASE_LO, COMPUTE_DISPATCH_SCRATCH_BASE_HI>(0, 0, b) << 8;
  d.scratch_wave_bytes = i64(tmpring.wavesize) * (generation_ == GFX94 ? 1024 : 256);
  d.scratch_waves = i64(tmpring.waves);
  auto bases = reg<SH_MEM_BASES>(0, 0, 1 + queue.streams.front().vmid);
  d.shared_aperture = bases.shared_base << 48, d.private_aperture = bases.private_base << 48;
  d.seed = u32(now_ns);
  queue.pending.push_back(d);
  return DONE;
}

// Runs pending dispatches within a budget of instructions; true when none is left.
bool AmdModel::run_dispatches(Queue& queue) {
  // One shader core serves all queues: a dispatch that goes on keeps it, one that is stuck does not.
  for (auto& [bank, other] : queues_)
    if (&other != &queue && other.running && !other.hung && other.instructions < options_.hang_instructions &&
        !queue.pending.empty())
      return false;
  while (!queue.pending.empty()) {
    bool last_first = strict;
    hw::Dispatch& d = last_first ? queue.pending.back() : queue.pending.front();
    if (!queue.running) {
      for (Later& l : later_)
        if (l.dispatches-- == 0) break_now(l.what);
      std::erase_if(later_, [](const Later& l) { return l.dispatches < 0; });
      queue.hung = std::exchange(hang_next_, false) || !options_.shader;
      queue.running = true, queue.instructions = 0;
      waves_at_ = -1;
      if (!queue.hung) options_.shader->start(d, *queue.memory);
    }
    if (queue.hung || queue.instructions >= options_.hang_instructions || queue.budget <= 0) return false;
    i64 slice = std::min(queue.budget, options_.hang_instructions - queue.instructions);
    hw::WaveResult r = options_.shader->step(slice);
    i64 ran = std::clamp<i64>(r.instructions, 1, slice);
    queue.instructions += ran, queue.budget -= ran;
    if (r.kind == hw::WaveResult::RUNNING) continue;
    if (r.kind != hw::WaveResult::DONE) {
      // The wave stops where it is and the dispatch never ends.
      queue.hung = true;
      if (r.kind != hw::WaveResult::FAULT) {
        std::vector<u32> words =
            pack(SQ_INTERRUPT{.error_type = SQ_INTERRUPT::ILLEGAL_INST, .encoding = SQ_INTERRUPT::ERROR}, generation_);
        interrupt({.client_id = IH_CLIENT::GFX,
                   .source_id = IH_SOURCE::SQ_INTERRUPT_ID,
                   .context_id0 = words[0],
                   .context_id1 = words[1]});
      }
      object(
          str("a wave stopped at ", hex(r.pc), ": ", r.kind == hw::WaveResult::FAULT ? "page fault: " : "", r.message));
      return false;
    }
    end_of_dispatch();
    queue.running = false;
    last_first ? queue.pending.pop_back() : queue.pending.pop_front();
  }
  return true;
}

}  // namespace ingot::model
