#include "common/base/check.h"

#include <cstring>

namespace godwit {
namespace {

Errc code_of(int error_number) {
  switch (error_number) {
    case ESRCH: return Errc::target_gone;
    case ENOENT: return Errc::not_found;
    case EEXIST: return Errc::already_exists;
    case ENOSPC:
    case EDQUOT:
    case ENOMEM: return Errc::no_space;
    case ENOSYS: return Errc::kernel_missing;
    case ETIMEDOUT: return Errc::timed_out;
    case EPIPE:
    case ECONNRESET:
    case ECONNREFUSED:
    case ECONNABORTED:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH: return Errc::peer_lost;
    default: return Errc::internal;
  }
}

}  // namespace

Error syscall_error(int error_number, std::string what) {
  Error error(code_of(error_number), std::move(what) + ": " + std::strerror(error_number));
  error.with_errno(error_number);
  return error;
}

}  // namespace godwit
