#include "coordinator/migration/hopeless.h"

#include "common/base/check.h"

#include <cmath>

namespace godwit::coordinator {

Error refusal(const Decision& decision) {
  const double ms = 1.1 * static_cast<double>(decision.attainable.count()) / 1e6;  // a tenth to spare
  return {
      Errc::refused, decision.reason,
      fmt::format("a budget of {:.0f} ms could be met (--downtime); or lower the load, or take the longer pause with "
                  "--on-no-progress force",
                  std::ceil(ms / 10) * 10)};
}

std::optional<Error> hopeless(const Measurements& measured, const PolicyOptions& options) {
  const Decision decision = decide(measured, options);
  if (decision.action != Action::give_up) return std::nullopt;
  return refusal(decision);
}

}  // namespace godwit::coordinator
