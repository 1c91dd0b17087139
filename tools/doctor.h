// SPDX-License-Identifier: MIT
// What `ingot doctor` is made of, for its test.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace ingot {
namespace hw {
class Bus;
}
struct Fact {
  std::string what, seen, expected;  // expected: "" where nothing better than the chip's word is known
  bool right = true;
};
struct StepReport {
  std::string name, proves;
  std::vector<Fact> facts;
  std::string error;  // why it did not end
  bool right() const;
};
struct DoctorReport {
  std::string chip;
  bool is_model = false;
  std::vector<StepReport> steps;       // up to the first that is wrong
  std::vector<std::string> not_tried;  // names of those after it
  bool right() const { return not_tried.empty() && !steps.empty() && steps.back().right(); }
};
// before: called with each step's name; tests break the chip there.
DoctorReport examine_amd(std::unique_ptr<hw::Bus> bus, bool is_model,
                         const std::function<void(std::string_view)>& before = {});
std::string text_of(const DoctorReport&);
std::string json_of(const DoctorReport&);
}  // namespace ingot
