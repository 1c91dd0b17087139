// SPDX-License-Identifier: MIT
// Device names. The registry itself is in compiler/runtime/devices.cc, the only folder that sees every back end.
#include "userspace/device/device.h"

namespace ingot {

DeviceName parse_device_name(std::string_view text) {
  auto fail = [&](auto... why) {
    throw Error("DEV=", text, ": ", why...,
                ". A device is [PREFIX+]NAME[:index][:ARCH], for example CPU, CPU::avx2, REF");
  };
  DeviceName name;
  std::string_view rest = text;
  if (size_t plus = rest.find('+'); plus != rest.npos) {
    name.prefix = rest.substr(0, plus);
    rest.remove_prefix(plus + 1);
    if (name.prefix.empty()) fail("nothing before +");
  }
  std::vector<std::string_view> parts = split(rest, ':');
  if (parts.size() > 3) fail("more than two colons");
  name.name = parts[0];
  if (name.name.empty()) fail("no name");
  for (char c : str(name.prefix, name.name))
    if (!((c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))) fail("a name is written in capitals");
  if (parts.size() > 1 && !parts[1].empty()) {
    auto [end, problem] = std::from_chars(parts[1].data(), parts[1].data() + parts[1].size(), name.index);
    if (problem != std::errc() || end != parts[1].data() + parts[1].size() || name.index < 0)
      fail("the index ", parts[1], " is not a number");
  }
  if (parts.size() > 2) {
    name.arch = parts[2];
    if (name.arch.empty()) fail("no architecture after the second colon");
  }
  return name;
}

}  // namespace ingot
