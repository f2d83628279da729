// The registry: every kind of file that can be carried, and what is said about those that cannot.
#pragma once

#include "agent/engine/resources/fd_kind.h"

#include <span>

namespace godwit::engine::resources {

std::span<const FdKind> fd_kinds();

// The first kind that matches; null: cannot be carried.
const FdKind* kind_of(const FdView& view);

// The kind that restores entries of this type; Errc::unsupported when there is none.
const FdKind& kind_of(image::FdType type);

// Why no kind matches.
Refusal refuse_unknown(const FdView& view);

}  // namespace godwit::engine::resources
