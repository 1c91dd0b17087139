// SPDX-License-Identifier: MIT
// Packets and the rings they go into. A packet is a row with values; what a sequence of packets must be, for a dispatch
// or a fence, is here. Linux, amdgpu/gfx_v11_0.c and sdma_v6_0.c; tinygrad, runtime/ops_amd.py.
//
// Rings, pointers and timelines are in the host's memory: the host polls them without touching the chip. The order of a
// submission is packets, write pointer, store fence, HDP flush (writes through BAR 0 before it become visible),
// doorbell. Compute rings count dwords, copy rings bytes. A timeline only grows; it is compared as 32 bits by the
// engines, so a queue can be used four billion times.
#include <bit>
#include <cstdio>
#include "userspace/amd/amd.h"

namespace ingot::amd {
namespace {

constexpr u64 all_ones = ~u32(0);
constexpr i64 max_copy = 4 * mib;  // Linux' limit; the count field holds more
// Of a queue's memory, after the ring: a page with pointers on cache lines of their own, and the EOP buffer.
constexpr i64 wptr_at = 0, rptr_at = 128, timeline_at = 256;

i64 sdma_length(std::span<const u32> words, const hw::Layout& l, Generation g) {
  i64 n = hw::words_of(l, g);
  if (&l == &layout_SDMA_NOP) n += i64(unpack<SDMA_NOP>(words, g).count);
  if (&l == &layout_SDMA_WRITE_LINEAR) n += i64(unpack<SDMA_WRITE_LINEAR>(words, g).count) + 1;
  return n;
}

}  // namespace

// ---- packets -------------------------------------------------------------------------------------------------------
void Packets::header(const hw::Layout& layout, size_t payload) {
  words.push_back(pack32(PM4_HEADER{.opcode = u64(layout.code[chip_.generation()]),
                                    .count = payload ? payload - 1 : PM4_HEADER::HEADER_ONLY,
                                    .type = PM4_HEADER::TYPE3},
                         chip_.generation()));
}
void Packets::set_sh(const hw::Layout& first, std::span<const u32> values, int index) {
  pm4(SET_SH_REG{.reg_offset = chip_.address(first, {.index = index}) - REG_WINDOW::SH}, values);
}

void Packets::flush_hdp() {
  pm4(WAIT_REG_MEM{.function = WAIT_FUNCTION::EQUAL,
                   .operation = WAIT_REG_MEM::WRITE_WAIT_WRITE,
                   .address = chip_.address(layout_BIF_BX_PF0_GPU_HDP_FLUSH_REQ) |
                              chip_.address(layout_BIF_BX_PF0_GPU_HDP_FLUSH_DONE) << 32,
                   .reference = all_ones,
                   .mask = all_ones,
                   .poll_interval = 32});
}
// GL1 and the metadata cache (GLM) are gone with gfx12.
void Packets::acquire(bool everything) {
  bool gfx11 = chip_.generation() == GFX11;
  ACQUIRE_MEM p{.gcr_size = (u64(1) << 56) - 1, .glk_inv = 1, .glv_inv = 1, .gl1_inv = gfx11};
  if (everything) p.gli_inv = ACQUIRE_MEM::GLI_ALL, p.gl2_inv = p.gl2_wb = p.glk_wb = 1, p.glm_wb = p.glm_inv = gfx11;
  pm4(p);
}
namespace {
RELEASE_MEM release_packet(Generation g, u64 va, u64 value, u64 what) {
  bool gfx11 = g == GFX11;
  return {.event_type = EVENT_TYPE::CACHE_FLUSH_AND_INV_TS_EVENT,
          .event_index = RELEASE_MEM::END_OF_PIPE,
          .glm_wb = gfx11,
          .glm_inv = gfx11,
          .glv_inv = 1,
          .gl1_inv = gfx11,
          .gl2_inv = 1,
          .gl2_wb = 1,
          .data_sel = what,
          .address = va,
          .data = value};
}
}  // namespace
void Packets::release(u64 va, u64 value) { pm4(release_packet(chip_.generation(), va, value, RELEASE_MEM::DATA_64)); }
void Packets::timestamp(u64 va) { pm4(release_packet(chip_.generation(), va, 0, RELEASE_MEM::GPU_CLOCK_COUNT)); }
void Packets::wait(u64 va, u32 at_least) {
  pm4(WAIT_REG_MEM{.function = WAIT_FUNCTION::GREATER_EQUAL,
                   .memspace = WAIT_REG_MEM::MEMORY,
                   .address = va,
                   .reference = at_least,
                   .mask = all_ones,
                   .poll_interval = 4});
}

void Packets::dispatch(const Kernel& k, const u32 groups[3], const u32 threads[3], u64 arguments,
                       const Scratch& scratch) {
  Generation g = chip_.generation();
  acquire(false);
  u32 program[] = {u32(k.entry >> 8), u32(k.entry >> 40)};
  set_sh<COMPUTE_PGM_LO>(program);
  auto rsrc2 = unpack32<COMPUTE_PGM_RSRC2>(k.rsrc[1], g);
  rsrc2.lds_size = u64(k.lds_bytes + 511) / 512;
  rsrc2.scratch_en = k.scratch_bytes > 0;
  u32 resources[] = {k.rsrc[0], pack32(rsrc2, g)};
  set_sh<COMPUTE_PGM_RSRC1>(resources);
  set_sh<COMPUTE_PGM_RSRC3>({&k.rsrc[2], 1});
  u32 ring = pack32(COMPUTE_TMPRING_SIZE{.waves = u64(scratch.waves), .wavesize = u64(scratch.wave_bytes / 256)}, g);
  u32 base[] = {u32(scratch.va >> 8), u32(scratch.va >> 40)}, zeros[3] = {};
  set_sh<COMPUTE_TMPRING_SIZE>({&ring, 1});
  set_sh<COMPUTE_DISPATCH_SCRATCH_BASE_LO>(base);
  set_sh<COMPUTE_RESTART_X>(zeros);
  u32 user[16] = {};  // the address of the arguments, after what else the kernel wants there, which we have not
  user[k.first_user] = u32(arguments), user[k.first_user + 1] = u32(arguments >> 32);
  set_sh<COMPUTE_USER_DATA_0>({user, size_t(rsrc2.user_sgpr)});
  set_sh<COMPUTE_RESOURCE_LIMITS>({zeros, 1});
  u32 shape[8] = {0, 0, 0, threads[0], threads[1], threads[2], 0, 0};  // start, threads, statistics off
  set_sh<COMPUTE_START_X>(shape);
  pm4(DISPATCH_DIRECT{
      .dim_x = groups[0],
      .dim_y = groups[1],
      .dim_z = groups[2],
      .dispatch_initiator = pack32(
          COMPUTE_DISPATCH_INITIATOR{.compute_shader_en = 1, .force_start_at_000 = 1, .cs_w32_en = k.wave32}, g)});
  // What follows starts when the waves have ended.
  pm4(EVENT_WRITE{.event_type = EVENT_TYPE::CS_PARTIAL_FLUSH, .event_index = EVENT_WRITE::PARTIAL_FLUSH});
}
void Packets::indirect(u64 va, i64 dwords) { pm4(INDIRECT_BUFFER{.address = va, .ib_size = u64(dwords), .valid = 1}); }

void Packets::copy(u64 to, u64 from, i64 bytes) {
  for (i64 at = 0; at < bytes; at += max_copy)
    sdma(SDMA_COPY_LINEAR{
        .count = u64(std::min(max_copy, bytes - at)) - 1, .src_addr = from + u64(at), .dst_addr = to + u64(at)});
}
void Packets::fill(u64 to, u32 value, i64 bytes) {
  check(bytes % 4 == 0, bytes);
  for (i64 at = 0; at < bytes; at += max_copy)
    sdma(SDMA_CONSTANT_FILL{.fillsize = SDMA_CONSTANT_FILL::DWORDS,
                            .dst_addr = to + u64(at),
                            .src_data = value,
                            .count = u64(std::min(max_copy, bytes - at)) - 1});
}
void Packets::sdma_fence(u64 va, u32 value) {
  sdma(SDMA_FENCE{.mtype = SDMA_FENCE::MTYPE_UC, .addr = va, .data = value});
}
void Packets::sdma_timestamp(u64 va) { sdma(SDMA_TIMESTAMP_GET_GLOBAL{.write_addr = va >> 3}); }
void Packets::sdma_wait(u64 va, u32 at_least) {
  sdma(SDMA_POLL_REGMEM{.func = SDMA_POLL_REGMEM::GREATER_EQUAL,
                        .mem_poll = 1,
                        .addr = va,
                        .value = at_least,
                        .mask = all_ones,
                        .interval = 10,
                        .retry_count = SDMA_POLL_REGMEM::FOREVER});
}

// ---- and back ------------------------------------------------------------------------------------------------------
std::string describe_pm4(std::span<const u32> words, Generation g, const hw::RegisterMap* names) {
  std::string out;
  for (size_t i = 0; i < words.size();) {
    auto h = unpack32<PM4_HEADER>(words[i], g);
    append(out, str("  ", hex(i * 4, 4), ": "));
    const hw::Layout* l = hw::find_code(rows, "PM4", i64(h.opcode), g);
    if (h.type != PM4_HEADER::TYPE3 || !l) {
      append(out, str(hex(words[i++], 8), "\n"));
      continue;
    }
    i++;
    size_t payload = h.count == PM4_HEADER::HEADER_ONLY ? 0 : size_t(h.count + 1);
    payload = std::min(payload, words.size() - i);
    std::span<const u32> body = words.subspan(i, payload);
    size_t fixed = std::min(payload, size_t(hw::words_of(*l, g)));
    append(out, describe(*l, body.subspan(0, fixed), g));
    for (size_t k = fixed; k < payload; k++) {
      const hw::RegisterName* r = nullptr;
      if (l == &layout_SET_SH_REG && names)
        r = names->find(REG_WINDOW::SH + (body[0] & ((1u << 16) - 1)) + (k - fixed));
      append(out, r ? str("\n          ", r->text(), " ", describe_fields(*r->layout, {&body[k], 1}, g))
                    : " " + hex(body[k]));
    }
    out += '\n';
    i += payload;
  }
  return out;
}
std::string describe_sdma(std::span<const u32> words, Generation g) {
  std::string out;
  for (size_t i = 0; i < words.size();) {
    const hw::Layout* l = hw::find_code(rows, "SDMA", i64(words[i] & ((1 << 16) - 1)), g);
    append(out, str("  ", hex(i * 4, 4), ": "));
    size_t n = l ? std::min(words.size() - i, size_t(sdma_length(words.subspan(i), *l, g))) : 1;
    append(out, l ? describe(*l, words.subspan(i, std::min(n, size_t(hw::words_of(*l, g)))), g) : hex(words[i], 8));
    out += '\n';
    i += n;
  }
  return out;
}

Kernel parse_kernel(std::span<const u8> code, std::string_view name, u64 va, Generation g) {
  constexpr size_t descriptor = 64;
  auto fail = [&](auto... why) { throw Error("kernel ", name, ": ", why...); };
  if (code.size() < descriptor) fail(code.size(), " bytes are no kernel descriptor and code");
  std::vector<u32> words(descriptor / 4);
  std::memcpy(words.data(), code.data(), descriptor);
  auto d = unpack<KERNEL_DESCRIPTOR>(words, g);
  if (d.kernel_code_entry_byte_offset < descriptor || d.kernel_code_entry_byte_offset >= code.size())
    fail("its entry at ", i64(d.kernel_code_entry_byte_offset), " is outside of its ", code.size(), " bytes");
  Kernel k;
  k.name = name;
  k.entry = va + d.kernel_code_entry_byte_offset;
  if (k.entry % 256) fail("its entry at ", d.kernel_code_entry_byte_offset, " is not a multiple of 256");
  k.rsrc[0] = u32(d.compute_pgm_rsrc1), k.rsrc[1] = u32(d.compute_pgm_rsrc2), k.rsrc[2] = u32(d.compute_pgm_rsrc3);
  k.lds_bytes = i64(d.group_segment_fixed_size), k.scratch_bytes = i64(d.private_segment_fixed_size);
  k.argument_bytes = i64(d.kernarg_size);
  k.wave32 = d.enable_wavefront_size32;
  if (d.enable_sgpr_dispatch_ptr || d.enable_sgpr_queue_ptr || d.enable_sgpr_private_segment_buffer)
    fail("it wants a dispatch packet, a queue or a buffer descriptor in registers, which there are only with AQL");
  if (!d.enable_sgpr_kernarg_segment_ptr) fail("it does not take the address of its arguments");
  u64 user = unpack32<COMPUTE_PGM_RSRC2>(k.rsrc[1], g).user_sgpr;
  if (user < 2 || user > 16) fail(user, " user registers; 2 to 16 are possible");
  return k;
}

std::vector<u8> with_descriptor(std::span<const u8> code, const Resources& r, Generation g) {
  constexpr u64 entry = 256, vector_granule = 8, round_to_nearest_with_denormals = 15 << 4;
  constexpr u64 user = 15;  // gfx1100 needs 16 initialised scalar registers (LLVM, FeatureUserSGPRInit16Bug)
  COMPUTE_PGM_RSRC1 one{.vgprs = u64(std::max(r.vectors, 1) - 1) / vector_granule,
                        .float_mode = round_to_nearest_with_denormals,
                        .mem_ordered = 1};
  if (g == GFX11) one.dx10_clamp = one.ieee_mode = 1;
  std::vector<u32> words =
      pack(KERNEL_DESCRIPTOR{.private_segment_fixed_size = u64(r.frame_bytes),
                             .kernarg_size = u64(r.params) * 8,
                             .kernel_code_entry_byte_offset = entry,
                             .compute_pgm_rsrc1 = pack32(one, g),
                             .compute_pgm_rsrc2 = pack32(COMPUTE_PGM_RSRC2{.user_sgpr = user, .tgid_x_en = 1}, g),
                             .enable_sgpr_kernarg_segment_ptr = 1,
                             .enable_wavefront_size32 = 1},
           g);
  std::vector<u8> out(entry + code.size());
  std::memcpy(out.data(), words.data(), words.size() * 4);
  if (!code.empty()) std::memcpy(&out[entry], code.data(), code.size());
  return out;
}

// ---- queues --------------------------------------------------------------------------------------------------------
Queue::Queue(Chip& chip, Gmc& gmc, Engine e, i64 ring_bytes) : engine(e), chip_(chip), gmc_(gmc) {
  check(std::has_single_bit(u64(ring_bytes)), ring_bytes);
  memory_ = gmc.alloc_system(ring_bytes + 2 * page_bytes);
  ring_dwords_ = ring_bytes / 4;
  std::memset(memory_.dma.host, 0, size_t(memory_.bytes));
}
Queue::~Queue() { gmc_.discard(memory_); }

QueueMemory Queue::memory() const {
  u64 pointers = memory_.va + u64(ring_dwords_ * 4);
  return {memory_.va, pointers + rptr_at, pointers + wptr_at, pointers + page_bytes, ring_dwords_ * 4, page_bytes};
}
u64 Queue::timeline() const { return memory_.va + u64(ring_dwords_ * 4 + timeline_at); }

namespace {
// The engine's writes and ours, whose order matters.
std::atomic_ref<u64> shared(const Memory& m, i64 offset) {
  return std::atomic_ref(*reinterpret_cast<u64*>(m.dma.host + offset));
}
}  // namespace

u64 Queue::done() { return shared(memory_, ring_dwords_ * 4 + timeline_at).load(std::memory_order_acquire); }

// Modulo the ring, since not every engine reports more bits than that.
i64 Queue::unread() {
  u64 r = shared(memory_, ring_dwords_ * 4 + rptr_at).load(std::memory_order_acquire);
  return i64((write_ - (engine == COPY ? r / 4 : r)) & u64(ring_dwords_ - 1));
}

u64 Queue::submit(std::span<const u32> packets) {
  Packets fence(chip_);
  if (engine == COMPUTE)
    fence.release(timeline(), last_ + 1);
  else
    fence.sdma_fence(timeline(), u32(last_ + 1));
  i64 need = i64(packets.size() + fence.words.size()), at = i64(write_ & u64(ring_dwords_ - 1));
  // A copy engine's packet may not wrap: zeros, which are NOPs, up to the end.
  i64 pad = engine == COPY && at + need > ring_dwords_ ? ring_dwords_ - at : 0;
  if (need + pad >= ring_dwords_) throw Error("a submission of ", need, " dwords; the ring has ", ring_dwords_);
  if (ctx.DEBUG >= 6)
    std::fputs((engine == COMPUTE
                    ? describe_pm4(packets, chip_.generation()) + describe_pm4(fence.words, chip_.generation())
                    : describe_sdma(packets, chip_.generation()) + describe_sdma(fence.words, chip_.generation()))
                   .c_str(),
               stderr);
  constexpr i64 room_ns = 10'000 * ms;
  if (!hw::poll(chip_.bus, room_ns, [&] { return unread() + need + pad < ring_dwords_; }))
    chip_.timed_out(engine == COMPUTE ? "room in the compute ring" : "room in the copy ring", room_ns, pending());
  u32* ring = reinterpret_cast<u32*>(memory_.dma.host);
  auto put = [&](u32 word) { ring[write_++ & u64(ring_dwords_ - 1)] = word; };
  for (i64 i = 0; i < pad; i++) put(0);
  for (u32 word : packets) put(word);
  for (u32 word : fence.words) put(word);
  ring_doorbell();
  return ++last_;
}

bool Queue::wait(u64 value, i64 timeout_ns) {
  // As long as something moves it is not a hang. Where nothing does although there are packets, the doorbell may have
  // been lost: it is rung once more.
  bool again = true;
  for (u64 seen = done(); seen < value; seen = done()) {
    if (hw::poll(chip_.bus, timeout_ns, [&] { return chip_.gate.pass(), done() != seen; })) continue;
    if (!unread() || !std::exchange(again, false)) return false;
    ring_doorbell();
  }
  return true;
}

void Queue::ring_doorbell() {
  u64 pointer = engine == COPY ? write_ * 4 : write_;
  shared(memory_, ring_dwords_ * 4 + wptr_at).store(pointer, std::memory_order_release);
  chip_.flush_hdp();
  chip_.bus.write64(2, doorbell_ * 8, pointer);
}

std::string Queue::pending() {
  i64 count = std::min<i64>(unread(), 64);
  std::vector<u32> words;
  for (i64 i = 0; i < count; i++) {
    u32 word;
    gmc_.read(memory_, i64((write_ - u64(unread()) + u64(i)) & u64(ring_dwords_ - 1)) * 4, &word, 4);
    words.push_back(word);
  }
  std::string name = engine == COMPUTE ? "compute" : "copy";
  return str("  ", name, " queue: timeline ", done(), " of ", last_, ", ", unread(), " dwords not taken",
             count ? ", next:\n" : "\n",
             engine == COMPUTE ? describe_pm4(words, chip_.generation()) : describe_sdma(words, chip_.generation()));
}

void Queue::restart() {
  write_ = 0;
  for (i64 at : {wptr_at, rptr_at}) shared(memory_, ring_dwords_ * 4 + at).store(0);
  shared(memory_, ring_dwords_ * 4 + timeline_at).store(last_);
}

// ---- steps ---------------------------------------------------------------------------------------------------------
Step::Step(Chip& chip, Gmc& gmc, std::span<const Call> calls, const Scratch& scratch) : gmc_(gmc) {
  Packets packets(chip);
  i64 bytes = 0;
  auto slot = [](const Call& c) { return (i64(c.arguments.size()) * 8 + 63) / 64 * 64; };
  for (const Call& c : calls) bytes += slot(c);
  // The packets say where the arguments are, so their length is found first.
  Packets one(chip);
  for (const Call& c : calls) one.dispatch(*c.kernel, c.groups, c.threads, 0, scratch);
  memory_ = gmc.alloc_system(bytes + i64(one.words.size()) * 4);
  packets_ = memory_.va + u64(bytes);
  i64 at = 0;
  for (const Call& c : calls) {
    check(c.slots.empty() || c.slots.size() == c.arguments.size(), c.kernel->name);
    packets.dispatch(*c.kernel, c.groups, c.threads, memory_.va + u64(at), scratch);
    gmc.write(memory_, at, c.arguments.data(), i64(c.arguments.size()) * 8);
    for (size_t i = 0; i < c.slots.size(); i++)
      if (c.slots[i] >= 0) patches_.push_back({at + i64(i) * 8, c.slots[i], c.arguments[i]});
    at += slot(c);
  }
  check(packets.words.size() == one.words.size());
  dwords_ = i64(packets.words.size());
  gmc.write(memory_, bytes, packets.words.data(), dwords_ * 4);
  Packets start(chip);
  start.flush_hdp();
  start.acquire(true);
  constexpr i64 most = (1 << 20) - 1;  // of one indirect buffer
  check(dwords_ <= most, dwords_);
  start.indirect(packets_, dwords_);
  submission_ = std::move(start.words);
}
Step::~Step() { gmc_.discard(memory_); }

u64 Step::replay(Queue& queue, std::span<const u64> values, i64 timeout_ns) {
  if (last_queue_ == &queue && !queue.wait(last_, timeout_ns)) return 0;
  for (const Patch& p : patches_) {
    u64 value = values[size_t(p.slot)] + p.add;
    gmc_.write(memory_, p.offset, &value, 8);
  }
  last_queue_ = &queue;
  return last_ = queue.submit(submission_);
}

}  // namespace ingot::amd
