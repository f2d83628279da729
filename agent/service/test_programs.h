// For tests: where this build's programs are. One file knows, which alone is compiled anew in another clone.
#pragma once

namespace godwit::service::test_programs {

extern const char* const fake_engine;
extern const char* const init;
extern const char* const page_server;

}  // namespace godwit::service::test_programs
