// What nearly everything asynchronous includes, to be compiled once: see godwit_async in cmake/build.cmake. Nobody
// includes this file. ssl::stream stays out of it: only the files here need it.
#pragma once

#include "common/net/channel.h"
#include "common/net/listener.h"
#include "common/net/within.h"
