// Alone, so that nothing else is compiled anew in every clone.
#include "agent/transfer/transfer_fixture.h"

namespace godwit::transfer {

const char* const page_server_program = PAGESERVER;

}  // namespace godwit::transfer
