// SPDX-License-Identifier: MIT
// Firmware: files of linux-firmware into the pieces the PSP wants, and the PSP brought up to take them. Every other
// engine's code goes through it, because it checks AMD's signatures; nothing here can load anything else.
//
// Order (tinygrad, runtime/support/am/ip.py; Linux, amdgpu/psp_v13_0.c and amdgpu_psp.c): the bootloader takes the
// parts of the secure OS one at a time; a command ring; table of contents; SMU firmware, which must be before the
// trusted memory (TMR) that the other firmware is copied into; the rest; and the RLC is told to start what was loaded.
// What stands in a file is bounds-checked like any other input.
#include <dlfcn.h>
#include "userspace/amd/amd.h"

namespace ingot::amd {
namespace {

constexpr i64 image_bytes = mib, page = page_bytes, ring_bytes = 64 << 10, tmr_bytes = 19 * mib, handshake = 20 * ms;

struct Sum {
  std::string_view file, sha256;
};
constexpr Sum sums[] = {
#define FIRMWARE(file, sha256) {file, sha256},
#include "userspace/amd/firmware.def"
#undef FIRMWARE
};

struct File {
  std::string name, bytes;
  FIRMWARE_HEADER header;
  template <class T>
  T part() const {  // a header that extends the common one
    return unpack<T>(words(hw::words_of(layout_of<T>, GFX11)), GFX11);
  }
  std::vector<u32> words(i64 count, u64 offset = 0) const {
    std::string raw = cut(offset, u64(count) * 4, "header");
    std::vector<u32> out(static_cast<size_t>(count));
    std::memcpy(out.data(), raw.data(), raw.size());
    return out;
  }
  std::string cut(u64 offset, u64 size, std::string_view what) const {
    if (offset > bytes.size() || size > bytes.size() - offset)
      throw Error("firmware ", name, ": its ", what, " at ", offset, ", ", size, " bytes, is outside of the file's ",
                  bytes.size());
    return bytes.substr(offset, size);
  }
  std::string ucode() const { return cut(header.ucode_array_offset_bytes, header.ucode_size_bytes, "code"); }
  [[noreturn]] void unknown_version(std::string_view known) const {
    throw Error("firmware ", name, ": its header is of version ", header.header_version_major, ".",
                header.header_version_minor, "; known are ", known);
  }
};

File open_file(std::string name, const FirmwareReader& reader, bool exact) {
  std::optional<std::string> bytes = reader(name);
  if (!bytes)
    throw Error(
        "no firmware ", name,
        ".bin. It is AMD's and not part of this project: install linux-firmware (Debian: firmware-amd-graphics)");
  File f{std::move(name), std::move(*bytes), {}};
  f.header = f.part<FIRMWARE_HEADER>();
  if (f.header.size_bytes > f.bytes.size())
    throw Error("firmware ", f.name, ": its header says ", f.header.size_bytes, " bytes, the file has ",
                f.bytes.size());
  if (exact) {
    std::string sum = sha256({reinterpret_cast<const u8*>(f.bytes.data()), f.bytes.size()});
    for (const Sum& s : sums)
      if (s.file == f.name && s.sha256 != sum)
        throw Error("firmware ", f.name, ": SHA-256 ", sum, " is not the one this driver was written with, ", s.sha256,
                    ". The chip checks signatures itself; what may differ is the order of loading");
  }
  return f;
}

// Most distributions compress linux-firmware. The library that unpacks it is there with their package manager; it is
// looked for when it is needed.
template <class F>
F* from_library(const char* library, const char* function, const std::string& path) {
  void* handle = ::dlopen(library, RTLD_NOW | RTLD_LOCAL);
  void* found = handle ? ::dlsym(handle, function) : nullptr;
  if (!found)
    throw Error("the firmware ", path, " is compressed and ", library, " is not here; install it or unpack the file");
  return reinterpret_cast<F*>(found);
}
constexpr size_t most_unpacked_bytes = 16 * mib;

std::string unpack_xz(const std::string& path) {  // lzma/container.h
  auto decode =
      from_library<int(u64 * memory, u32 flags, const void* allocator, const u8* in, size_t* in_at, size_t in_bytes,
                       u8* out, size_t* out_at, size_t out_bytes)>("liblzma.so.5", "lzma_stream_buffer_decode", path);
  std::string in = read_file(path), out(most_unpacked_bytes, 0);
  u64 memory = 4 * most_unpacked_bytes;
  size_t in_at = 0, out_at = 0;
  int problem = decode(&memory, 0, nullptr, reinterpret_cast<const u8*>(in.data()), &in_at, in.size(),
                       reinterpret_cast<u8*>(out.data()), &out_at, out.size());
  if (problem || in_at != in.size()) throw Error("the firmware ", path, " does not unpack: liblzma's code ", problem);
  out.resize(out_at);
  return out;
}
std::string unpack_zst(const std::string& path) {  // zstd.h: a result above any size is an error
  auto decode = from_library<size_t(void* out, size_t out_bytes, const void* in, size_t in_bytes)>(
      "libzstd.so.1", "ZSTD_decompress", path);
  std::string in = read_file(path), out(most_unpacked_bytes, 0);
  size_t n = decode(out.data(), out.size(), in.data(), in.size());
  if (n > out.size()) throw Error("the firmware ", path, " does not unpack: libzstd's code ", -n);
  out.resize(n);
  return out;
}

}  // namespace

FirmwareReader system_firmware(std::string folder) {
  return [folder](std::string_view name) -> std::optional<std::string> {
    std::vector<std::string> folders = {"/lib/firmware/updates/amdgpu", "/lib/firmware/amdgpu",
                                        "/usr/lib/firmware/amdgpu"};
    if (!folder.empty()) folders = {folder};
    for (const std::string& at : folders) {
      std::string path = str(at, "/", name, ".bin");
      if (file_exists(path)) return read_file(path);
      if (file_exists(path + ".xz")) return unpack_xz(path + ".xz");
      if (file_exists(path + ".zst")) return unpack_zst(path + ".zst");
    }
    return {};
  };
}

Firmware load_firmware(const Discovery& ip, const FirmwareReader& reader, bool exact) {
  Firmware fw;
  auto open = [&](std::string_view prefix, Block block, std::string_view suffix = "") {
    return open_file(str(prefix, "_", ip.version(block).text('_'), suffix), reader, exact);
  };
  auto add = [](std::vector<Firmware::Part>& to, const File& f, std::initializer_list<u64> types, std::string bytes) {
    if (bytes.empty()) return;
    std::string what = value_name(layout_CMD_LOAD_IP_FW, "fw_type", *types.begin());
    to.push_back({str(f.name, " ", what), types, std::move(bytes)});
  };

  File sos = open("psp", MP0, "_sos");
  if (sos.header.header_version_major != 2) sos.unknown_version("2.0 and 2.1");
  u64 count = sos.words(1, 32)[0];
  for (u64 i = 0; i < count; i++) {
    auto d = unpack<PSP_FW_BIN_DESC>(sos.words(4, 36 + i * 16), GFX11);
    fw.sos[d.fw_type] = sos.cut(sos.header.ucode_array_offset_bytes + d.offset_bytes, d.size_bytes, "image");
  }
  if (!fw.sos.count(PSP_FW_TYPE::PSP_SOS))
    throw Error("firmware ", sos.name, ": it has no secure OS among ", count, " parts");

  File smu = open("smu", MP1);
  add(fw.smu, smu, {GFX_FW_TYPE::SMU}, smu.ucode());

  File sdma = open("sdma", SDMA0);
  if (sdma.header.header_version_major == 2) {
    auto h = sdma.part<SDMA_FIRMWARE_HEADER_V2>();
    add(fw.parts, sdma, {GFX_FW_TYPE::SDMA_UCODE_TH1},
        sdma.cut(h.ctl_ucode_offset, h.ctl_ucode_size_bytes, "control code"));
    add(fw.parts, sdma, {GFX_FW_TYPE::SDMA_UCODE_TH0},
        sdma.cut(sdma.header.ucode_array_offset_bytes, h.ctx_ucode_size_bytes, "context code"));
  } else if (sdma.header.header_version_major == 3) {
    auto h = sdma.part<SDMA_FIRMWARE_HEADER_V3>();
    add(fw.parts, sdma, {GFX_FW_TYPE::SDMA_UCODE_TH0}, sdma.cut(h.ucode_offset_bytes, h.ucode_size_bytes, "code"));
  } else
    sdma.unknown_version("2 and 3");

  auto processor = [&](std::string_view suffix, u64 code, u64 stack, u64& start) {
    File f = open("gc", GC, suffix);
    if (f.header.header_version_major != 2) f.unknown_version("2");
    auto h = f.part<GFX_FIRMWARE_HEADER_V2>();
    add(fw.parts, f, {code}, f.cut(f.header.ucode_array_offset_bytes, h.ucode_size_bytes, "code"));
    add(fw.parts, f, {stack}, f.cut(h.data_offset_bytes, h.data_size_bytes, "data"));
    start = h.ucode_start_addr;
  };
  if (ip.generation == GFX12) {
    processor("_pfp", GFX_FW_TYPE::RS64_PFP, GFX_FW_TYPE::RS64_PFP_P0_STACK, fw.pfp_start);
    processor("_me", GFX_FW_TYPE::RS64_ME, GFX_FW_TYPE::RS64_ME_P0_STACK, fw.me_start);
  }
  processor("_mec", GFX_FW_TYPE::RS64_MEC, GFX_FW_TYPE::RS64_MEC_P0_STACK, fw.mec_start);

  File imu = open("gc", GC, "_imu");
  if (imu.header.header_version_major != 1) imu.unknown_version("1");
  auto i = imu.part<IMU_FIRMWARE_HEADER_V1>();
  u64 start = imu.header.ucode_array_offset_bytes;
  add(fw.parts, imu, {GFX_FW_TYPE::IMU_I}, imu.cut(start, i.imu_iram_ucode_size_bytes, "IRAM"));
  add(fw.parts, imu, {GFX_FW_TYPE::IMU_D},
      imu.cut(start + i.imu_iram_ucode_size_bytes, i.imu_dram_ucode_size_bytes, "DRAM"));

  File rlc = open("gc", GC, "_rlc");
  if (rlc.header.header_version_major != 2) rlc.unknown_version("2");
  u64 minor = rlc.header.header_version_minor;
  // A short header ends early; what it does not have reads as zero.
  i64 have = std::min<i64>(hw::words_of(layout_RLC_FIRMWARE_HEADER_V2, GFX11), i64(rlc.bytes.size() / 4));
  auto r = unpack<RLC_FIRMWARE_HEADER_V2>(rlc.words(have), GFX11);
  struct Piece {
    u64 since, type, offset, size;
  };
  for (const Piece& p : {
           Piece{1, GFX_FW_TYPE::RLC_RESTORE_LIST_SRM_CNTL, r.save_restore_list_cntl_offset_bytes,
                 r.save_restore_list_cntl_size_bytes},
           Piece{1, GFX_FW_TYPE::RLC_RESTORE_LIST_GPM_MEM, r.save_restore_list_gpm_offset_bytes,
                 r.save_restore_list_gpm_size_bytes},
           Piece{1, GFX_FW_TYPE::RLC_RESTORE_LIST_SRM_MEM, r.save_restore_list_srm_offset_bytes,
                 r.save_restore_list_srm_size_bytes},
           Piece{2, GFX_FW_TYPE::RLC_IRAM, r.rlc_iram_ucode_offset_bytes, r.rlc_iram_ucode_size_bytes},
           Piece{2, GFX_FW_TYPE::RLC_DRAM_BOOT, r.rlc_dram_ucode_offset_bytes, r.rlc_dram_ucode_size_bytes},
           Piece{3, GFX_FW_TYPE::RLC_P, r.rlcp_ucode_offset_bytes, r.rlcp_ucode_size_bytes},
           Piece{3, GFX_FW_TYPE::RLC_V, r.rlcv_ucode_offset_bytes, r.rlcv_ucode_size_bytes},
       })
    if (minor >= p.since) add(fw.parts, rlc, {p.type}, rlc.cut(p.offset, p.size, "list"));
  add(fw.parts, rlc, {GFX_FW_TYPE::RLC_G}, rlc.ucode());
  return fw;
}

// ---- the processor -------------------------------------------------------------------------------------------------
Psp::Psp(Chip& chip, Gmc& gmc) : chip_(chip), gmc_(gmc) {
  image_ = gmc.alloc_boot(image_bytes, mib);
  command_ = gmc.alloc_boot(page);
  fence_ = gmc.alloc_boot(page);
  ring_ = gmc.alloc_boot(ring_bytes);
  boot_time_tmr_ = chip.generation() == GFX12;  // MP0 14.0.2 and 14.0.3 have made it before we come
  if (!boot_time_tmr_) tmr_ = gmc.alloc_boot(tmr_bytes, mib);
}

bool Psp::alive() { return chip_.read<MP0_SMN_C2PMSG_81>().content != 0; }

void Psp::place(std::string_view image, std::string_view what) {
  if (i64(image.size()) > image_bytes) throw Error("firmware ", what, ": ", image.size(), " bytes, at most 1 MiB fits");
  std::string padded(image);
  padded.resize((image.size() + 19) / 16 * 16);
  chip_.write_vram(image_, padded.data(), std::min<i64>(i64(padded.size()), image_bytes));
  chip_.flush_hdp();
}

void Psp::load_component(u64 type, u64 command, std::string_view image) {
  auto ready = [&](std::string_view when) {
    std::string name = value_name(layout_PSP_FW_BIN_DESC, "fw_type", type);
    auto r = chip_.wait<MP0_SMN_C2PMSG_35>(str("PSP bootloader ", when, " ", name), 10'000 * ms, [&](auto& m) {
      return unpack32<PSP_MAILBOX>(u32(m.content), chip_.generation()).ready;
    });
    if (u64 status = unpack32<PSP_MAILBOX>(u32(r.content), chip_.generation()).status;
        status && command && when == "after")
      throw DeviceError(str(chip_.bus.name(), ": the PSP bootloader refuses ", name, ", status ", hex(status)),
                        chip_.describe_register(layout_MP0_SMN_C2PMSG_35));
  };
  ready("before");
  place(image, value_name(layout_PSP_FW_BIN_DESC, "fw_type", type));
  chip_.write(MP0_SMN_C2PMSG_36{.content = gmc_.mc(image_) >> 20});
  chip_.write(MP0_SMN_C2PMSG_35{.content = command});
  if (command != PSP_BL::LOAD_SOSDRV) ready("after");
}

void Psp::create_ring() {
  Generation g = chip_.generation();
  auto answer = [&](std::string_view what) {
    chip_.wait<MP0_SMN_C2PMSG_64>(what, 1'000 * ms,
                                  [&](auto& m) { return unpack32<PSP_MAILBOX>(u32(m.content), g).ready; });
    auto m = unpack32<PSP_MAILBOX>(u32(chip_.read<MP0_SMN_C2PMSG_64>().content), g);
    return m.status;
  };
  if (chip_.read<MP0_SMN_C2PMSG_71>().content) {  // another process's
    chip_.write(MP0_SMN_C2PMSG_64{.content = pack32(PSP_MAILBOX{.command = PSP_MAILBOX::DESTROY_RINGS}, g)});
    chip_.bus.wait_ns(handshake);
  }
  answer("the PSP's secure OS");
  chip_.write(MP0_SMN_C2PMSG_69{.content = gmc_.mc(ring_) & ~u32(0)});
  chip_.write(MP0_SMN_C2PMSG_70{.content = gmc_.mc(ring_) >> 32});
  chip_.write(MP0_SMN_C2PMSG_71{.content = u64(ring_bytes)});
  chip_.write(MP0_SMN_C2PMSG_64{.content = pack32(PSP_MAILBOX{.command = PSP_MAILBOX::INIT_GPCOM_RING}, g)});
  chip_.bus.wait_ns(handshake);
  if (u64 status = answer("creating the PSP's ring"))
    throw DeviceError(str(chip_.bus.name(), ": the PSP refuses a ring, status ", hex(status)),
                      chip_.describe_register(layout_MP0_SMN_C2PMSG_64));
}

// One command: its buffer, a frame that points at it, the write pointer, the fence.
template <class T>
PSP_CMD_RESP Psp::submit(const T& body, std::string_view what) {
  Generation g = chip_.generation();
  std::vector<u32> words = pack(
      PSP_CMD_RESP{.buf_size = u64(hw::words_of(layout_PSP_CMD_RESP, g)) * 4, .cmd_id = u64(layout_of<T>.code[g])}, g);
  std::vector<u32> arguments = pack(body, g);
  std::copy(arguments.begin(), arguments.end(), words.begin() + i64(PSP_COMMAND::BODY));
  u64 at = chip_.read<MP0_SMN_C2PMSG_67>().content, fence = at + 1;
  std::vector<u32> frame = pack(PSP_RB_FRAME{.cmd_buf_addr = gmc_.mc(command_),
                                             .cmd_buf_size = words.size() * 4,
                                             .fence_addr = gmc_.mc(fence_),
                                             .fence_value = fence},
                                g);
  u32 zero = 0;
  chip_.write_vram(fence_, &zero, 4);
  chip_.write_vram(command_, words.data(), i64(words.size()) * 4);
  chip_.write_vram(ring_ + at * 4 % ring_bytes, frame.data(), i64(frame.size()) * 4);
  chip_.flush_hdp();
  chip_.write(MP0_SMN_C2PMSG_67{.content = (at + frame.size()) % (ring_bytes / 4)});
  auto state = [&] {
    return str("  ", describe(layout_PSP_RB_FRAME, frame, g), "\n  ", describe(layout_of<T>, arguments, g), "\n");
  };
  u32 seen = 0;
  bool done = hw::poll(chip_.bus, 10'000 * ms, [&] {
    chip_.read_vram(fence_, &seen, 4);
    return seen == u32(fence);
  });
  if (!done) chip_.timed_out(str("PSP command ", layout_of<T>.name, " (", what, ")"), 10'000 * ms, state());
  chip_.read_vram(command_, words.data(), i64(words.size()) * 4);
  auto response = unpack<PSP_CMD_RESP>(words, g);
  if (response.status)
    throw DeviceError(
        str(chip_.bus.name(), ": the PSP refuses ", layout_of<T>.name, " (", what, "), status ", hex(response.status)),
        state());
  return response;
}

void Psp::load(const Firmware::Part& part) {
  place(part.bytes, part.name);
  for (u64 type : part.types)
    submit(CMD_LOAD_IP_FW{.fw_phy_addr = gmc_.mc(image_), .fw_size = part.bytes.size(), .fw_type = type}, part.name);
}

void Psp::boot(const Firmware& fw) {
  struct {
    u64 type, command;
  } const components[] = {
      {PSP_FW_TYPE::PSP_KDB, PSP_BL::LOAD_KEY_DATABASE}, {PSP_FW_TYPE::PSP_SPL, PSP_BL::LOAD_TOS_SPL_TABLE},
      {PSP_FW_TYPE::PSP_SYS_DRV, PSP_BL::LOAD_SYSDRV},   {PSP_FW_TYPE::PSP_SOC_DRV, PSP_BL::LOAD_SOCDRV},
      {PSP_FW_TYPE::PSP_INTF_DRV, PSP_BL::LOAD_INTFDRV}, {PSP_FW_TYPE::PSP_DBG_DRV, PSP_BL::LOAD_DBGDRV},
      {PSP_FW_TYPE::PSP_RAS_DRV, PSP_BL::LOAD_RASDRV},   {PSP_FW_TYPE::PSP_IPKEYMGR_DRV, PSP_BL::LOAD_IPKEYMGRDRV},
      {PSP_FW_TYPE::PSP_SOS, PSP_BL::LOAD_SOSDRV},
  };
  if (!alive()) {
    for (auto& c : components)
      if (auto image = fw.sos.find(c.type); image != fw.sos.end()) load_component(c.type, c.command, image->second);
    chip_.wait<MP0_SMN_C2PMSG_81>("the PSP's secure OS", 10'000 * ms, [](auto& m) { return m.content; });
  }
  create_ring();
  u64 tmr_size = u64(tmr_bytes);
  if (auto toc = fw.sos.find(PSP_FW_TYPE::PSP_TOC); toc != fw.sos.end()) {
    place(toc->second, "table of contents");
    tmr_size =
        submit(CMD_LOAD_TOC{.toc_phy_addr = gmc_.mc(image_), .toc_size = toc->second.size()}, "table of contents")
            .tmr_size;
    if (tmr_size > u64(tmr_bytes))
      throw DeviceError(str("the PSP wants ", tmr_size, " bytes of trusted memory, ", tmr_bytes, " are reserved"), "");
  }
  for (const Firmware::Part& part : fw.smu) load(part);
  if (!boot_time_tmr_)
    submit(
        CMD_SETUP_TMR{.buf_phy_addr = gmc_.mc(tmr_), .buf_size = tmr_size, .virt_phy_addr = 1, .system_phy_addr = tmr_},
        "trusted memory");
  for (const Firmware::Part& part : fw.parts) load(part);
  submit(CMD_AUTOLOAD_RLC{}, "start the graphics core");
}

}  // namespace ingot::amd
