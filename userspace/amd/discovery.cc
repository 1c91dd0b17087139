// SPDX-License-Identifier: MIT
// What the chip is: the table that its firmware leaves near the end of VRAM, and with it the way to every register.
// The table says which blocks there are, of what version and where; a product's name or PCI id says nothing. It comes
// from a chip that may be broken and from files, so nothing in it is believed: every offset is checked.
//
// A register's address is bases[block, instance, segment] + offset of its row. Those that BAR 5 does not reach go
// through an index and a data register. DEBUG=7 prints each access by name and fields.
#include <algorithm>
#include <cstdio>
#include <memory>
#include "userspace/amd/amd.h"

namespace ingot::amd {
namespace {

struct Binary {  // bounds-checked reads of dwords at byte offsets
  std::span<const u8> bytes;
  template <class T>
  T at(u64 offset, std::string_view what) const {
    i64 dwords = std::max<i64>(0, hw::words_of(layout_of<T>, GFX11));
    return unpack<T>(words(offset, dwords, what), GFX11);
  }
  std::vector<u32> words(u64 offset, i64 dwords, std::string_view what) const {
    if (offset > bytes.size() || u64(dwords) * 4 > bytes.size() - offset)
      throw Error("discovery table: ", what, " at ", offset, " is outside of its ", bytes.size(), " bytes");
    std::vector<u32> out(static_cast<size_t>(dwords));
    if (dwords) std::memcpy(out.data(), &bytes[offset], size_t(dwords) * 4);
    return out;
  }
};
constexpr i64 header_bytes = 12, table_bytes = 8;

}  // namespace

Version Discovery::version(Block block) const {
  for (auto& [key, version] : blocks)
    if (key.first == block) return version;
  throw Error("this chip has no ", block_names[block]);
}

std::string Discovery::arch() const {
  Version v = version(GC);
  return str("gfx", v.major, hex(u64(v.minor)).substr(2), hex(u64(v.revision)).substr(2));
}

Discovery parse_discovery(std::span<const u8> bytes) {
  Binary all{bytes};
  auto header = all.at<BINARY_HEADER>(0, "the header");
  if (header.binary_signature != BINARY_HEADER::BINARY_SIGNATURE)
    throw Error("discovery table: starts with ", hex(header.binary_signature, 8), " instead of ",
                hex(BINARY_HEADER::BINARY_SIGNATURE, 8));
  if (header.binary_size > bytes.size() || header.binary_size < DISCOVERY::CHECKSUM_START)
    throw Error("discovery table: its header says ", header.binary_size, " bytes, there are ", bytes.size());
  u16 sum = 0;
  for (u64 i = DISCOVERY::CHECKSUM_START; i < header.binary_size; i++) sum = u16(sum + bytes[i]);
  if (sum != header.binary_checksum)
    throw Error("discovery table: its bytes sum to ", hex(sum), ", its header says ", hex(header.binary_checksum));
  auto table = [&](u64 which, std::string_view name) {
    return all.at<TABLE_INFO>(u64(header_bytes) + which * table_bytes, name).offset;
  };

  Discovery d;
  std::vector<std::pair<u64, u64>> absent_blocks;
  if (u64 at = table(DISCOVERY_TABLE::HARVEST_INFO, "the harvest table's place")) {
    auto harvest = all.at<HARVEST_HEADER>(at, "the harvest table");
    if (harvest.signature == HARVEST_HEADER::HARVEST_TABLE_SIGNATURE)
      for (u64 i = 0; i < 32; i++) {
        auto h = all.at<HARVEST_INFO>(at + 8 + i * 4, "the harvest table");
        if (!h.hw_id) break;
        absent_blocks.emplace_back(h.hw_id, h.number_instance);
      }
  }
  u64 at = table(DISCOVERY_TABLE::IP_DISCOVERY, "the block table's place");
  auto ips = all.at<IP_DISCOVERY_HEADER>(at, "the block table");
  if (ips.signature != IP_DISCOVERY_HEADER::DISCOVERY_TABLE_SIGNATURE)
    throw Error("discovery table: the block table starts with ", hex(ips.signature, 8), " instead of ",
                hex(IP_DISCOVERY_HEADER::DISCOVERY_TABLE_SIGNATURE, 8));
  if (ips.num_dies > 16) throw Error("discovery table: ", ips.num_dies, " dies, at most 16 fit");
  bool wide = ips.version >= 4 && ips.base_addr_64_bit;
  d.bases.at[{FIXED, 0, 0}] = 0;
  for (u64 die = 0; die < ips.num_dies; die++) {
    u64 record = all.at<DIE_INFO>(at + DISCOVERY::DIE_INFO + die * 4, "a die").die_offset;
    u64 count = all.at<DIE_HEADER>(record, "a die's header").num_ips;
    record += 4;
    for (u64 i = 0; i < count; i++) {
      auto ip = all.at<IP_RECORD>(record, "a block");
      i64 per_base = wide ? 2 : 1;
      std::vector<u32> bases = all.words(record + 8, i64(ip.num_base_address) * per_base, "a block's bases");
      record += 8 + bases.size() * 4;
      auto known = std::find(std::begin(block_ids) + 1, std::end(block_ids), ip.hw_id);  // the first is FIXED
      auto fused = std::find(absent_blocks.begin(), absent_blocks.end(), std::pair{ip.hw_id, ip.instance_number});
      if (known == std::end(block_ids) || fused != absent_blocks.end()) continue;
      int block = int(known - std::begin(block_ids)), instance = int(ip.instance_number);
      d.blocks[{block, instance}] = {int(ip.major), int(ip.minor), int(ip.revision)};
      for (u64 b = 0; b < ip.num_base_address; b++)
        d.bases.at[{block, instance, int(b)}] = wide ? bases[b * 2] | u64(bases[b * 2 + 1]) << 32 : bases[b];
    }
  }
  Version gc = d.version(GC);
  if (gc.major != 11 && gc.major != 12)
    throw Error("graphics core ", gc.text('.'), ": this driver knows 11 (RDNA3) and 12 (RDNA4)");
  d.generation = gc.major == 12 ? GFX12 : GFX11;

  u64 shape = table(DISCOVERY_TABLE::GC, "the graphics core's table's place");
  auto info = all.at<GPU_INFO_HEADER>(shape, "the graphics core's table");
  if (info.table_id != GPU_INFO_HEADER::GC_TABLE_ID || info.version_major != 1)
    throw Error("discovery table: the graphics core's table has id ", hex(info.table_id), " and version ",
                info.version_major, ".", info.version_minor, "; ", hex(GPU_INFO_HEADER::GC_TABLE_ID),
                " and 1 are known");
  // Version 1.0 is shorter than the row: what is read here, all versions have.
  std::vector<u32> words = all.words(shape + 12, 17, "the graphics core's table");
  auto core = unpack<GC_INFO_V1>(words, GFX11);
  auto number = [&](u64 value, u64 most, std::string_view what) {
    if (!value || value > most) throw Error("discovery table: ", value, " ", what, "; 1 to ", most, " are possible");
    return int(value);
  };
  d.shader_engines = number(core.gc_num_se, 32, "shader engines");
  d.arrays_per_engine = number(core.gc_num_sa_per_se, 4, "arrays per engine");
  d.units_per_array = number(2 * (core.gc_num_wgp0_per_sa + core.gc_num_wgp1_per_sa), 64, "units per array");
  d.waves_per_simd = number(core.gc_max_waves_per_simd, 32, "waves per SIMD");
  d.scratch_slots_per_unit = number(core.gc_max_scratch_slots_per_cu, 64, "scratch slots per unit");
  d.lds_bytes = number(core.gc_lds_size, 1024, "KiB of LDS") * 1024;
  return d;
}

// ---- registers -----------------------------------------------------------------------------------------------------
Chip::Chip(hw::Bus& b) : bus(b) {
  ip.bases.at[{FIXED, 0, 0}] = 0;
  u64 megabytes = read<RCC_CONFIG_MEMSIZE>().config_memsize;
  if (!megabytes || u32(megabytes) == ~u32(0))
    throw DeviceError(str(bus.name(), ": the chip does not answer; is it powered, and is memory space enabled?"),
                      describe_register(layout_RCC_CONFIG_MEMSIZE));
  vram_bytes = i64(megabytes) * mib;
  visible_bytes = std::min(bus.bar(0).bytes, vram_bytes);
  std::vector<u8> binary(DISCOVERY::SIZE);
  read_vram(u64(vram_bytes) - DISCOVERY::OFFSET, binary.data(), i64(binary.size()));
  ip = parse_discovery(binary);
}

u32 Chip::read_dword(u64 dword) {
  if (i64(dword * 4) < bus.bar(5).bytes) return bus.read32(5, dword * 4);
  u64 index = address(layout_BIF_BX_PF0_RSMU_INDEX), data = address(layout_BIF_BX_PF0_RSMU_DATA);
  bus.write32(5, index * 4, u32(dword * 4));
  return bus.read32(5, data * 4);
}
void Chip::write_dword(u64 dword, u32 value) {
  if (i64(dword * 4) < bus.bar(5).bytes) return bus.write32(5, dword * 4, value);
  u64 index = address(layout_BIF_BX_PF0_RSMU_INDEX), data = address(layout_BIF_BX_PF0_RSMU_DATA);
  bus.write32(5, index * 4, u32(dword * 4));
  bus.write32(5, data * 4, value);
}

namespace {
std::string name_of(const hw::Layout& layout, At at, std::string fields) {
  hw::RegisterName name{&layout, at.hub, at.index, at.instance};
  return str(name.text(), fields.empty() ? "" : " ", fields);
}
void trace(const char* what, const hw::Layout& layout, At at, u32 value, int generation) {
  std::string line = name_of(layout, at, describe_fields(layout, {&value, 1}, generation));
  std::fprintf(stderr, "%s %s %s\n", what, layout.block[at.hub] < 0 ? "" : block_names[layout.block[at.hub]],
               line.c_str());
}
}  // namespace

u32 Chip::read_raw(const hw::Layout& layout, At at) {
  u32 value = read_dword(address(layout, at));
  if (ctx.DEBUG >= 7) trace("read ", layout, at, value, generation());
  return value;
}
void Chip::write_raw(const hw::Layout& layout, u32 value, At at) {
  if (ctx.DEBUG >= 7) trace("write", layout, at, value, generation());
  write_dword(address(layout, at), value);
}
std::string Chip::describe_register(const hw::Layout& layout, At at) {
  u32 value = read_raw(layout, at);
  return str("  ", name_of(layout, at, describe_fields(layout, {&value, 1}, generation())), " (", hex(value, 8), ")\n");
}
void Chip::timed_out(std::string_view what, i64 timeout_ns, std::string state) {
  throw DeviceError(str(bus.name(), ": ", what, " timed out after ", timeout_ns / ms, " ms"), std::move(state));
}

// ---- VRAM ----------------------------------------------------------------------------------------------------------
// A dword through MM_INDEX and MM_DATA, which reach all of VRAM wherever BAR 0 ends.
void Chip::window(u64 paddr, u32* data, bool write_it) {
  write(MM_INDEX_HI{.mm_offset_hi = paddr >> 31});
  write(MM_INDEX{.mm_offset = paddr & ((u64(1) << 31) - 1), .mm_aper = 1});
  if (write_it)
    write(MM_DATA{.mm_data = *data});
  else
    *data = u32(read<MM_DATA>().mm_data);
}

void Chip::write_vram(u64 paddr, const void* from, i64 bytes) {
  check(bytes >= 0 && i64(paddr) + bytes <= vram_bytes, paddr, " ", bytes);
  const u8* p = static_cast<const u8*>(from);
  if (i64 direct = std::clamp<i64>(visible_bytes - i64(paddr), 0, bytes)) {
    bus.copy_to(0, paddr, p, direct);
    paddr += u64(direct), p += direct, bytes -= direct;
  }
  while (bytes) {
    u64 base = paddr & ~u64(3);
    i64 skip = i64(paddr - base), n = std::min<i64>(bytes, 4 - skip);
    u32 word = 0;
    if (n < 4) window(base, &word, false);
    std::memcpy(reinterpret_cast<u8*>(&word) + skip, p, size_t(n));
    window(base, &word, true);
    paddr += u64(n), p += n, bytes -= n;
  }
}
void Chip::read_vram(u64 paddr, void* to, i64 bytes) {
  check(bytes >= 0 && i64(paddr) + bytes <= vram_bytes, paddr, " ", bytes);
  u8* p = static_cast<u8*>(to);
  if (i64 direct = std::clamp<i64>(visible_bytes - i64(paddr), 0, bytes)) {
    bus.copy_from(0, paddr, p, direct);
    paddr += u64(direct), p += direct, bytes -= direct;
  }
  while (bytes) {
    u64 base = paddr & ~u64(3);
    i64 skip = i64(paddr - base), n = std::min<i64>(bytes, 4 - skip);
    u32 word = 0;
    window(base, &word, false);
    std::memcpy(p, reinterpret_cast<u8*>(&word) + skip, size_t(n));
    paddr += u64(n), p += n, bytes -= n;
  }
}

// The host data path holds writes back until it is told; which register tells it, a register says.
void Chip::flush_hdp() {
  bus.flush_writes();
  if (!hdp_flush_) {
    u32 word = read_raw(layout_BIF_BX0_REMAP_HDP_MEM_FLUSH_CNTL);
    hdp_flush_ = pack32(
        BIF_BX0_REMAP_HDP_MEM_FLUSH_CNTL{.address =
                                             unpack32<BIF_BX0_REMAP_HDP_MEM_FLUSH_CNTL>(word, generation()).address},
        generation());
  }
  if (ctx.DEBUG >= 7) std::fprintf(stderr, "write HDP flush at byte %llx\n", (unsigned long long)hdp_flush_);
  write_dword(hdp_flush_ / 4, 0);
}

}  // namespace ingot::amd
