// Tells where the workload is: asks Godwit, through its command line, which node runs it.
#pragma once

#include "deploy/demo.d/client/connection.h"

#include <optional>
#include <string>
#include <string_view>

namespace godwit::demo {

class Locator {
 public:
  // Always `fixed`.
  static Locator at(Address fixed);
  // The node on which `godwit ps --json` shows `workload`, at that node's host name.
  static Locator of_workload(std::string workload, std::uint16_t port);

  // Nothing when it is not known now.
  std::optional<Address> locate() const;

 private:
  std::optional<Address> fixed_;
  std::string workload_;
  std::uint16_t port_ = 0;
};

// The node of a workload in what `godwit ps --json` prints.
std::optional<std::string> node_of(std::string_view ps_json, std::string_view workload);

}  // namespace godwit::demo
