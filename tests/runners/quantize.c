/* quantize IN OUT TYPE: uses only the C ABI, for processors that run under emulation. */
#include <stdio.h>

#include "pillion.h"

int main(int argc, char** argv) {
    if (argc != 4) return 2;
    pillion_quantize_config config;
    pillion_quantize_config_init(&config, sizeof config);
    config.type = argv[3];
    config.n_threads = 2;
    pillion_quantization* plan = NULL;
    pillion_status status = pillion_quantization_new(argv[1], &config, &plan);
    if (status == PILLION_OK) status = pillion_quantization_run(plan, argv[2], NULL, NULL);
    if (status != PILLION_OK) fprintf(stderr, "%s\n", pillion_last_error());
    pillion_quantization_free(plan);
    return status == PILLION_OK ? 0 : 1;
}
