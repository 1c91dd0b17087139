// SPDX-License-Identifier: MIT
// `ingot devices`: every back end of this build, whether this machine has it, and what a program would run on. A back
// end that is absent or fails to open is listed with the reason, since finding out why is what people run this for.
#include <cstdio>

#include "compiler/runtime/runtime.h"
#include "tools/tools.h"

namespace ingot {

struct Found {
  std::string_view name, what;  // what: the row's description
  std::string absent;           // why it cannot be used; empty: it can
  DeviceInfo info;
};

static Found probe(const Backend& backend) {
  Found f{backend.name, backend.description, "", {}};
  if (!backend.open) {  // a chip that we drive: opening it would boot it
    std::string cards, usable;
    for (const PciCard& c : pci_cards(backend.vendor)) {
      append(cards, str(cards.empty() ? "" : "; ", c.address, ": ",
                        c.unusable.empty() ? "bound to " + c.driver + ", can be used" : c.unusable));
      if (c.unusable.empty()) usable = c.address;
    }
    f.absent = usable.empty() ? str(backend.description, "; ", cards.empty() ? "no card in this machine" : cards) : "";
    f.info.name = backend.name, f.info.description = str(backend.description, "; ", cards), f.info.isa = backend.isa;
    if (cards.empty())
      for (const Way& w : ways())
        if (!w.prefix.empty()) append(f.absent, str(", ", w.prefix, "+", backend.name, " is ", w.description));
    return f;
  }
  try {
    if (std::unique_ptr<Device> device = backend.open(0, ""))
      f.info = device->info();
    else
      f.absent = "not on this machine";
  } catch (const Error& e) {
    f.absent = e.what();
  }
  return f;
}

int devices_main(Arguments args) {
  Options o("ingot devices", args);
  const bool json = o.flag("json", "print a JSON array");
  o.rest("", "Lists the devices that DEV= accepts, and which one is used when DEV is not set.", 0, 0);
  std::vector<Found> all;
  for (const Backend& b : backends()) all.push_back(probe(b));
  std::string chosen;
  try {
    chosen = device_name(device_number(""));
    if (chosen.find('+') != chosen.npos) all.push_back({chosen, "", "", device(device_number("")).info()});
  } catch (const Error& e) {
    if (!ctx.DEV.empty()) throw;  // else: no device is present, which the list says
  }
  if (!json) printf("%s\n", bold("device  state").c_str());
  for (size_t i = 0; i < all.size(); i++) {
    const Found& f = all[i];
    const DeviceInfo& d = f.info;
    const bool is_chosen = f.name == chosen || f.name == chosen.substr(0, chosen.find(':'));
    if (json)
      printf(
          "%s{\"name\": %s, \"present\": %s, \"chosen\": %s, \"description\": %s, \"isa\": %s, \"arch\": %s, "
          "\"threads\": %d, "
          "\"memory_bytes\": %lld, \"reason\": %s}",
          i ? ",\n " : "[", quote_json(f.name).c_str(), f.absent.empty() ? "true" : "false",
          is_chosen ? "true" : "false", quote_json(d.description).c_str(), quote_json(d.isa).c_str(),
          quote_json(d.arch).c_str(), d.threads, static_cast<long long>(d.memory_bytes), quote_json(f.absent).c_str());
    else if (f.absent.empty())
      printf("%-8s%s%s\n", d.name.c_str(), d.description.c_str(),
             !is_chosen        ? ""
             : ctx.DEV.empty() ? "  (used when DEV is not set)"
                               : "  (used, as DEV says)");
    else
      printf("%-8s%s\n", std::string(f.name).c_str(), f.absent.c_str());
  }
  if (json) printf("]\n");
  return 0;
}

}  // namespace ingot
