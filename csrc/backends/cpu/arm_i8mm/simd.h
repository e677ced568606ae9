// Vector operations for Armv8.6 with int8 matrix products. The float operations are those of
// Armv8.2. Included inside the namespace of the instruction set; include <arm_neon.h> before,
// outside of it.
#pragma once
#include "backends/cpu/arm_dotprod/simd.h"
