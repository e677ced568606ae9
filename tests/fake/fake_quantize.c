/* Not in the fake. */
#include "fake_state.h"

void pillion_quantize_config_init(pillion_quantize_config* config, size_t size) {
    fake_init_config(config, size);
}
pillion_status pillion_quantization_new(const char* path, const pillion_quantize_config* config,
                                        pillion_quantization** quantization) {
    BEGIN();
    NEED(path && config && quantization);
    return fake_invalid("the fake does not quantize");
}
void pillion_quantization_free(pillion_quantization* quantization) { (void)quantization; }
pillion_status pillion_quantization_count(const pillion_quantization* quantization, size_t* n,
                                          uint64_t* bytes) {
    BEGIN();
    (void)n, (void)bytes;
    NEED(quantization);
    return PILLION_OK;
}
pillion_status pillion_quantization_tensor(const pillion_quantization* quantization, size_t i,
                                           pillion_quantized_tensor* tensor, size_t size) {
    BEGIN();
    (void)i, (void)size;
    NEED(quantization && tensor);
    return PILLION_OK;
}
pillion_status pillion_quantization_run(pillion_quantization* quantization, const char* out,
                                        pillion_progress_callback progress, void* user) {
    BEGIN();
    (void)progress, (void)user;
    NEED(quantization && out);
    return PILLION_OK;
}

pillion_status pillion_join(const char* part, const char* out, pillion_progress_callback progress,
                            void* user) {
    BEGIN();
    (void)progress, (void)user;
    NEED(part && out);
    return fake_invalid("the fake does not join");
}
pillion_status pillion_split(const char* path, const char* prefix, uint64_t max_bytes,
                             uint64_t max_tensors, size_t* n_parts,
                             pillion_progress_callback progress, void* user) {
    BEGIN();
    (void)max_bytes, (void)max_tensors, (void)n_parts, (void)progress, (void)user;
    NEED(path && prefix);
    return fake_invalid("the fake does not split");
}
