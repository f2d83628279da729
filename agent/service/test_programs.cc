#include "agent/service/test_programs.h"

namespace godwit::service::test_programs {

const char* const fake_engine = GODWIT_FAKE_ENGINE;
const char* const init = GODWIT_INIT;
const char* const page_server = GODWIT_PAGE_SERVER;

}  // namespace godwit::service::test_programs
