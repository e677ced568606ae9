// Vector words, Armv8.6 with int8 matrix products: the floats are those of Armv8.2. Included inside
// the namespace of the instruction set, after <arm_neon.h> has been included outside of it.
#pragma once
#include "backends/cpu/arm_dotprod/simd.h"
