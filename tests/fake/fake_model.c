/* Model files and their metadata. */
#include <stdio.h>

#include "fake_state.h"

void pillion_model_config_init(pillion_model_config* config, size_t size) {
    fake_init_config(config, size);
    if (config && size >= sizeof *config) config->n_gpu_layers = -1;
}

void fake_free_tokenizer(pillion_tokenizer* tokenizer) {
    if (--tokenizer->count > 0) return;
    --fake_objects;
    free(tokenizer);
}
void fake_release(pillion_model* model) {
    if (--model->count > 0) return;
    --fake_objects;
    fake_free_tokenizer(model->tokenizer);
    free(model);
}

const char* fake_find(const pillion_model* model, const char* key) {
    for (int i = 0; i < model->n_entries; ++i)
        if (strcmp(model->entries[i].key, key) == 0) return model->entries[i].value;
    return NULL;
}

pillion_status pillion_model_open(const char* path, const pillion_model_config* given,
                                  pillion_model** out) {
    BEGIN();
    NEED(path && out);
    pillion_model_config config = {0};
    if (!fake_read_config(&config, sizeof config, given))
        return fake_invalid("pillion_model_config: unknown fields are not zero");
    FILE* file = fopen(path, "r");
    if (!file) {
        char sentence[400];
        snprintf(sentence, sizeof sentence, "%s: no such file", path);
        return fake_error(PILLION_ERROR_FILE_NOT_FOUND, sentence);
    }
    char line[2200];
    if (!fgets(line, sizeof line, file) || strcmp(line, "fake\n") != 0) {
        fclose(file);
        return fake_error(PILLION_ERROR_FILE_CORRUPT,
                          "this is no model file: the first line is not 'fake'");
    }
    pillion_model* model = calloc(1, sizeof *model);
    model->count = 1;
    model->metadata_only = config.metadata_only;
    while (model->n_entries < 32 && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        char* equals = strchr(line, '=');
        if (!equals) continue;
        *equals = 0;
        entry* one = &model->entries[model->n_entries++];
        snprintf(one->key, sizeof one->key, "%.63s", line);
        snprintf(one->value, sizeof one->value, "%.2047s", equals + 1);
    }
    fclose(file);
    for (uint64_t done = 0; config.progress && done <= 100; done += 10) {
        fake_dawdle("load");
        if (config.progress(done, 100, config.progress_user)) {
            free(model);
            return fake_error(PILLION_ERROR_CANCELLED, "loading was cancelled");
        }
    }
    const char* arch = fake_find(model, "fake.arch");
    snprintf(model->arch, sizeof model->arch, "%s",
             arch ? arch + 1 : "fake");          /* behind the quote ... */
    model->arch[strcspn(model->arch, "\"")] = 0; /* ... to the other one */
    model->is_drafter = fake_find(model, "fake.drafter") != NULL;
    model->tokenizer = calloc(1, sizeof *model->tokenizer);
    model->tokenizer->count = 1;
    const char* suppressed = fake_find(model, "fake.suppress");
    model->tokenizer->suppressed = suppressed ? atoi(suppressed) : -1;
    fake_objects += 2;
    *out = model;
    return PILLION_OK;
}
void pillion_model_free(pillion_model* model) {
    if (model) fake_release(model);
}

pillion_status pillion_model_get_info(const pillion_model* model, pillion_model_info* info,
                                      size_t size) {
    BEGIN();
    NEED(model && info && size >= sizeof(uint32_t));
    pillion_model_info mine = {.n_layers = 1,
                               .n_embd = N_EMBD,
                               .n_vocab = N_VOCAB,
                               .n_ctx_train = 4096,
                               .n_heads = 1,
                               .is_drafter = model->is_drafter,
                               .n_params = 1000000,
                               .file_bytes = 100,
                               .weight_bytes = 200};
    snprintf(mine.arch, sizeof mine.arch, "%s", model->arch);
    fake_write_info(info, size, &mine, sizeof mine);
    return PILLION_OK;
}

static int write_metadata(const pillion_model* model, char* json) {
    int n = sprintf(json,
                    "\"tensor_types\": {\"F32\": {\"tensors\": 1, \"params\": 25, \"bytes\": "
                    "100}}, \"metadata\": {");
    for (int i = 0; i < model->n_entries; ++i) {
        const entry* one = &model->entries[i];
        n += sprintf(json + n, "%s\"%s\": %s", i ? ", " : "", one->key,
                     one->value[0] == '"' ? "\"...\"" : one->value);
    }
    return n + sprintf(json + n, "}}");
}

pillion_status pillion_model_json(const pillion_model* model, char* out, size_t capacity,
                                  size_t* needed) {
    BEGIN();
    NEED(model && needed);
    char* json = malloc(80000);
    int n = sprintf(
        json,
        "{\"arch\": \"%s\", \"name\": \"\", \"n_layers\": 1, \"n_embd\": %d, \"n_vocab\": %d, "
        "\"n_ctx_train\": 4096,"
        " \"window\": 0, \"softcap\": 0, \"per_layer_width\": 0, \"n_experts\": 0, "
        "\"n_experts_used\": 0, \"layers\": [],"
        " \"warnings\": [], \"problems\": [], \"unknown_tensors\": [], \"unread_keys\": [], ",
        model->arch, N_EMBD, N_VOCAB);
    if (model->is_drafter)
        n += sprintf(json + n,
                     "\"drafter\": {\"target_n_embd\": %d, \"head\": \"dense\", \"head_problem\": "
                     "null, \"n_centroids\": 0,"
                     " \"centroid_top_k\": 0, \"centroid_form\": null, \"reads\": {}}, ",
                     N_EMBD);
    n += write_metadata(model, json + n);
    pillion_status status = fake_give(json, (size_t)n, 1, out, capacity, needed);
    free(json);
    return status;
}

pillion_status pillion_file_json(const char* path, int32_t with_tensors, char* out, size_t capacity,
                                 size_t* needed) {
    BEGIN();
    NEED(path && needed);
    const pillion_model_config config = {.struct_size = sizeof config, .metadata_only = 1};
    pillion_model* model;
    pillion_status status = pillion_model_open(path, &config, &model);
    if (status) return status;
    char* json = malloc(80000);
    int n = sprintf(json,
                    "{\"gguf_version\": 3, \"alignment\": 32, \"file_bytes\": 100, "
                    "\"architecture\": \"%s\", \"type\": null,"
                    " \"n_tensors\": 1, \"n_params\": 25, \"tensor_bytes\": 100, ",
                    model->arch);
    if (with_tensors)
        n += sprintf(json + n,
                     "\"tensors\": [{\"name\": \"a\", \"type\": \"F32\", \"shape\": [25], "
                     "\"bytes\": 100, \"offset\": 0}], ");
    n += write_metadata(model, json + n);
    pillion_model_free(model);
    status = fake_give(json, (size_t)n, 1, out, capacity, needed);
    free(json);
    return status;
}

pillion_status pillion_model_metadata(const pillion_model* model, const char* key, char* out,
                                      size_t capacity, size_t* needed) {
    BEGIN();
    NEED(model && key && needed);
    const char* value = fake_find(model, key);
    if (!value) return fake_invalid("there is no such metadata key");
    size_t n = strlen(value);
    if (value[0] != '"') return fake_give(value, n, 1, out, capacity, needed);
    char text[2048]; /* without the quotes, and \n as a line feed */
    size_t length = 0;
    for (size_t i = 1; i + 1 < n; ++i) {
        const int escaped = value[i] == '\\' && i + 2 < n;
        text[length++] = escaped ? (value[i + 1] == 'n' ? '\n' : value[i + 1]) : value[i];
        i += escaped;
    }
    return fake_give(text, length, 1, out, capacity, needed);
}

pillion_status pillion_model_tokenizer(pillion_model* model, pillion_tokenizer** tokenizer) {
    BEGIN();
    NEED(model && tokenizer);
    ++model->tokenizer->count;
    *tokenizer = model->tokenizer;
    return PILLION_OK;
}
