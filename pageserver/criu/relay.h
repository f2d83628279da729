// Between an engine that has no network and a page server that wants TLS: takes commands from a socket and the pages
// that belong to them from a ring in shared memory, one behind the other, and speaks it all over TLS. One relay per
// dump.
//
// `criu page-server` counts on how a CRIU client cuts its TLS records: a header is a record of its own, and within a
// run every 64 KiB from its start begin a new one. So the relay follows the protocol rather than copying bytes. It is
// no judge of it: both ends are.
#pragma once

#include "common/pagewire/criu.h"
#include "pageserver/criu/page_source.h"
#include "pageserver/criu/stream.h"

namespace godwit::pageserver::criu {

// Returns when the session is closed and the answer passed on. Errc::peer_lost when either end went away, or when pages
// do not come that were announced; the other one then sees its connection end.
void relay(Stream& engine, PageSource& pages, Stream& server, pagewire::criu::HeaderSize size);

int relay_main(int argc, char** argv);

}  // namespace godwit::pageserver::criu
