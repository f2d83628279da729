// `godwit page-server`: CRIU's command, option by option. One server is one session.
#pragma once

namespace godwit::pageserver::criu {

// `argv[0]` is the command. Returns the exit code: 0 only when a client closed its session and every byte is stored.
int page_server_main(int argc, char** argv);

}  // namespace godwit::pageserver::criu
