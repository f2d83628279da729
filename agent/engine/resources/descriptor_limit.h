// A task may have descriptors above our own limit of them.
#pragma once

namespace godwit::engine::resources {

// This process's limit, to as many as it may have.
void raise_descriptor_limit();

}  // namespace godwit::engine::resources
