// Giving up everything a page server does not need. Called once, before any thread or connection exists.
#pragma once

#include <string>

namespace godwit::pageserver {

// Becomes `user`, without groups, capabilities, core dumps or a way back; not traceable by its equals.
// Started by somebody else than root it stays who it is and drops the rest. Errc::invalid_argument: no such user.
void drop_privileges(const std::string& user);

}  // namespace godwit::pageserver
