// SPDX-License-Identifier: MIT
// What `ingot chip` is made of, for its test.
#pragma once
#include <signal.h>

#include <string>

#include "userspace/base/base.h"

namespace ingot {
namespace model {
class Chip;
}
// Serves the chip at a socket until SIGINT or SIGTERM, one user at a time: another one is refused with the first one's
// process. Error: somebody serves there already.
void serve_chip(model::Chip& chip, const std::string& path);

// The chip as a PCI device of a virtual machine: chip/qemu.cc.
struct QemuOptions {
  std::string qtest;          // socket of QEMU's -qtest; empty: there are no interrupts
  bool iommu = false;         // the machine has an intel-iommu
  int bus = 1, function = 0;  // where the guest sees the chip: bus number, device * 8 + function
  int aperture_slot = -1;     // device on bus 0 of an ivshmem-plain whose memory is the VRAM; -1: VRAM is trapped
};
// Serves one connection, which it closes, until QEMU goes or `stopped`; returns what happened, for people. A signal
// that sets `unplug` makes the chip vanish from the bus.
std::string serve_qemu(model::Chip& chip, int socket, const QemuOptions& options, const volatile sig_atomic_t& stopped,
                       volatile sig_atomic_t* unplug = nullptr);
}  // namespace ingot
