// The file of a workload, as its bytes were found. Errors: Errc::invalid_argument when it is none, or that of another.
#pragma once

#include "agent/workload/workload.pb.h"

#include <string>

namespace godwit::workload {

void check_workload_name(const std::string& name);  // Errc::invalid_argument: it becomes part of paths

// `name`: of the workload, by the name of its file.
Saved parse_saved(const std::string& name, const std::string& bytes);

}  // namespace godwit::workload
