// Sound at another rate.
#pragma once
#include <vector>

namespace pillion::run {

// n samples at rate_in become n * rate_out / rate_in, rounded up. A sinc of 64 zero crossings on
// each side under a Kaiser window: flat to 0.9 of the lower rate's half, 100 dB down beyond it.
std::vector<float> resample(const std::vector<float>& samples, int rate_in, int rate_out);

}  // namespace pillion::run
