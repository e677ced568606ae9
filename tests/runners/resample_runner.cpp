// resample_runner IN OUT: the floats of stdin, at rate IN, to stdout at rate OUT.
#include <stdio.h>
#include <stdlib.h>

#include "run/resample.h"

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    std::vector<float> samples;
    for (float x; fread(&x, 4, 1, stdin) == 1;) samples.push_back(x);
    const std::vector<float> out = pillion::run::resample(samples, atoi(argv[1]), atoi(argv[2]));
    return fwrite(out.data(), 4, out.size(), stdout) == out.size() ? 0 : 1;
}
