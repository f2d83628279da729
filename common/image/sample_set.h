// An image set with at least one record of every kind, for tests and for the first inputs of fuzzers.
#pragma once

#include "common/image/image_set.h"

namespace godwit::image {

ImageSet sample_set();

}  // namespace godwit::image
