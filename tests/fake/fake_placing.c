/* Memory, fit and devices: fixed figures. */
#include <stdio.h>

#include "fake_state.h"

pillion_status pillion_model_memory(const pillion_model* model, const pillion_model* drafter,
                                    const pillion_context_config* given, char* out, size_t capacity,
                                    size_t* needed) {
    BEGIN();
    NEED(model && needed);
    pillion_context_config config = {0};
    if (!fake_read_config(&config, sizeof config, given))
        return fake_invalid("pillion_context_config: unknown fields are not zero");
    if (model->is_drafter && drafter)
        return fake_error(PILLION_ERROR_PAIRING,
                          "this is a drafter: it runs only beside its target");
    const int n_ctx = config.n_ctx ? config.n_ctx : 4096, alone = model->is_drafter;
    char kv[200] = "null", other[200] = "null", json[1000];
    if (!alone)
        sprintf(kv,
                "{\"full\": {\"layers\": 1, \"positions\": %d, \"bytes\": %d}, \"sliding\": "
                "{\"layers\": 0, \"positions\": 0,"
                " \"bytes\": 0}, \"snapshots\": 0, \"bytes\": %d}",
                n_ctx, 4 * n_ctx, 4 * n_ctx);
    if (drafter)
        sprintf(other,
                "{\"kind\": \"mtp\", \"head\": \"dense\", \"weights\": 200, \"mapped\": 0, "
                "\"kv_bytes\": 0, \"snapshots\": 0, \"scratch\": 0,"
                " \"outputs\": 0, \"bytes\": 200}");
    int n = sprintf(json,
                    "{\"n_ctx\": %d, \"n_batch\": 512, \"kv_type\": \"f16\", \"weights\": 200, "
                    "\"mapped\": 0, \"kv\": %s,"
                    " \"scratch\": 0, \"outputs\": 0, \"drafter\": %s, \"total\": %d}",
                    n_ctx, kv, other, 200 + (alone ? 0 : 4 * n_ctx) + (drafter ? 200 : 0));
    return fake_give(json, (size_t)n, 1, out, capacity, needed);
}

/* One device, the host: nothing has to fit. */
void pillion_fit_config_init(pillion_fit_config* config, size_t size) {
    fake_init_config(config, size);
    if (config && size >= sizeof *config) config->n_gpu_layers = -1;
}
pillion_status pillion_model_fit(const pillion_model* model, const pillion_model* drafter,
                                 const pillion_context_config* context,
                                 const pillion_fit_config* given, int32_t* n_gpu_layers, char* out,
                                 size_t capacity, size_t* needed) {
    BEGIN();
    NEED(model && needed);
    (void)drafter, (void)context;
    pillion_fit_config config = {0};
    if (!fake_read_config(&config, sizeof config, given))
        return fake_invalid("pillion_fit_config: unknown fields are not zero");
    if (config.n_gpu_layers < -1) return fake_invalid("n_gpu_layers is below -1");
    if (config.n_gpu_layers > 0)
        return fake_error(PILLION_ERROR_NO_BACKEND,
                          "n_gpu_layers asked, but there is only the cpu here");
    if (n_gpu_layers) *n_gpu_layers = 0;
    static const char json[] =
        "{\"device\": \"cpu\", \"is_host\": true, \"n_layers\": 1, \"device_layers\": 0, "
        "\"weights\": 0, "
        "\"kv\": 0, \"scratch\": 0, \"total\": 0, \"available\": 0, \"note\": \"\"}";
    return fake_give(json, sizeof json - 1, 1, out, capacity, needed);
}
pillion_status pillion_device_json(const char* device, char* out, size_t capacity, size_t* needed) {
    BEGIN();
    NEED(device && needed);
    if (strcmp(device, "auto") && strcmp(device, "cpu"))
        return fake_error(PILLION_ERROR_NO_BACKEND, "there is only the cpu here");
    static const char json[] =
        "{\"name\": \"cpu\", \"is_host\": true, \"memory\": {\"total\": 2000000000, \"free\": "
        "1000000000, \"unified\": true}, "
        "\"info\": {\"threads\": 1}}";
    return fake_give(json, sizeof json - 1, 1, out, capacity, needed);
}
const char* pillion_draft_device(const char* device, const char* asked) {
    if (asked && strcmp(asked, "auto")) return asked;
    if (!device) return "auto";
    return strncmp(device, "htp", 3) ? device : "cpu";
}
