#include "common/base/error.h"

#include <array>
#include <vector>

namespace godwit {
namespace {

struct Named {
  Errc code;
  std::string_view name;
};

constexpr std::array names{
    Named{Errc::unsupported, "unsupported"},
    Named{Errc::refused, "refused"},
    Named{Errc::invalid_argument, "invalid_argument"},
    Named{Errc::not_found, "not_found"},
    Named{Errc::already_exists, "already_exists"},
    Named{Errc::target_gone, "target_gone"},
    Named{Errc::image_corrupt, "image_corrupt"},
    Named{Errc::kernel_missing, "kernel_missing"},
    Named{Errc::peer_lost, "peer_lost"},
    Named{Errc::denied, "denied"},
    Named{Errc::protocol, "protocol"},
    Named{Errc::no_space, "no_space"},
    Named{Errc::timed_out, "timed_out"},
    Named{Errc::cancelled, "cancelled"},
    Named{Errc::busy, "busy"},
    Named{Errc::internal, "internal"},
};

class Category : public std::error_category {
 public:
  const char* name() const noexcept override { return "godwit"; }
  std::string message(int value) const override { return std::string(godwit::name(static_cast<Errc>(value))); }
};

std::vector<std::string>& trail() {
  thread_local std::vector<std::string> stack;
  return stack;
}

std::string with_trail(std::string message) {
  std::string whole;
  for (const std::string& what : trail()) whole += what + ": ";
  return whole + message;
}

}  // namespace

std::string_view name(Errc code) {
  for (const Named& n : names)
    if (n.code == code) return n.name;
  return "internal";
}

Errc errc_from_name(std::string_view text) {
  for (const Named& n : names)
    if (n.name == text) return n.code;
  return Errc::internal;
}

const std::error_category& error_category() {
  static const Category category;
  return category;
}

Error::Error(Errc code, std::string message, std::string hint)
    : std::system_error(make_error_code(code)), message_(with_trail(std::move(message))), hint_(std::move(hint)) {}

void Doing::push(std::string what) { trail().push_back(std::move(what)); }
Doing::~Doing() { trail().pop_back(); }

}  // namespace godwit
