// SPDX-License-Identifier: MIT
// AMD's chips as rows: registers, packets, descriptors, page-table entries, firmware interfaces. Each row of the .def
// files is a struct here (`pack(RELEASE_MEM{.address = a, .data = 1}, GFX11)`), and `rows` lists them all for tools and
// the model. The columns are register generations, not products: a chip is of the generation whose headers its blocks
// follow.
#pragma once
#include "userspace/hw/layout.h"

namespace ingot::amd {

enum Generation : u8 { GFX11, GFX12, GFX94 };  // RDNA3, RDNA4, CDNA3 and 4
inline constexpr const char* generation_names[] = {"gfx11", "gfx12", "gfx94"};

enum Block : u8 {
#define BLOCK(name, id, doc) name,
#include "userspace/hw/amd/blocks.def"
#undef BLOCK
};
inline constexpr const char* block_names[] = {
#define BLOCK(name, id, doc) #name,
#include "userspace/hw/amd/blocks.def"
#undef BLOCK
};
inline constexpr u16 block_ids[] = {
#define BLOCK(name, id, doc) id,
#include "userspace/hw/amd/blocks.def"
#undef BLOCK
};
enum Hub : u8 { GFXHUB, MMHUB_HUB };  // the `copy` of a register that both memory hubs have
struct HubName {
  Block block;
  const char* prefix;
};
inline constexpr HubName hubs[] = {{GC, "GC"}, {MMHUB, "MM"}};

using hw::absent, hw::pack, hw::pack32, hw::pack64, hw::unpack, hw::unpack32, hw::unpack64;

#define TABLES "userspace/hw/amd/tables.def"
#include "userspace/hw/rows.def"
#undef TABLES

}  // namespace ingot::amd
