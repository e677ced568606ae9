/* The strings that tests pull, errors, and what every part of the fake uses. */
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "fake_state.h"

static _Thread_local char last_error[512];
atomic_size_t fake_objects, fake_tokens_run;
static atomic_size_t begun;
static atomic_int slow_us;
uint32_t fake_lying;
static char marks[1024];
static char fail_function[64], fail_sentence[256];
static int32_t fail_code;
static int32_t script[4096];
static size_t script_base, script_n;
static pillion_log_callback log_sink;
static void* log_user;

void fake_reset(void) {
    fake_tokens_run = begun = 0;
    slow_us = 0;
    fake_lying = 0;
    marks[0] = 0;
    fail_function[0] = 0;
    script_n = 0;
}
void fake_script(size_t base, const int32_t* tokens, size_t n) {
    script_base = base;
    script_n = n < 4096 ? n : 4096;
    memcpy(script, tokens, script_n * sizeof *tokens);
}
void fake_fail(const char* function, int32_t code, const char* sentence) {
    snprintf(fail_function, sizeof fail_function, "%s", function);
    snprintf(fail_sentence, sizeof fail_sentence, "%s", sentence);
    fail_code = code;
}
void fake_slow(int32_t us) { slow_us = us; }
void fake_lies(uint32_t positions) { fake_lying = positions; }
size_t fake_live(void) { return fake_objects; }
size_t fake_evaluated(void) { return fake_tokens_run; }
size_t fake_begun(void) { return begun; }
void fake_marks(const char* folder) { snprintf(marks, sizeof marks, "%s", folder); }

void fake_dawdle(const char* at) {
    ++begun;
    if (marks[0]) {
        char path[sizeof marks + 16];
        snprintf(path, sizeof path, "%s/%s", marks, at);
        FILE* mark = fopen(path, "a");
        if (mark) fclose(mark);
    }
    struct timespec pause = {slow_us / 1000000, slow_us % 1000000 * 1000L};
    if (slow_us) nanosleep(&pause, NULL);
}

static void* log_body(void* message) {
    if (log_sink) log_sink(*(int32_t*)message, (char*)message + sizeof(int32_t), log_user);
    return NULL;
}
void fake_log(int32_t level, const char* message) {
    char* packed = malloc(sizeof level + strlen(message) + 1);
    memcpy(packed, &level, sizeof level);
    strcpy(packed + sizeof level, message);
    pthread_t thread;
    pthread_create(&thread, NULL, log_body, packed);
    pthread_join(thread, NULL);
    free(packed);
}

pillion_status fake_error(pillion_status code, const char* sentence) {
    snprintf(last_error, sizeof last_error, "%s", sentence);
    return code;
}
pillion_status fake_invalid(const char* sentence) {
    return fake_error(PILLION_ERROR_INVALID_ARGUMENT, sentence);
}
pillion_status fake_begin(const char* function) {
    last_error[0] = 0;
    if (strcmp(function, fail_function) != 0) return PILLION_OK;
    fail_function[0] = 0;
    return fake_error(fail_code, fail_sentence);
}

/* A caller's struct of any size, copied into one of ours; refuses a surplus that is not zero. */
int fake_read_config(void* mine, size_t my_size, const void* theirs) {
    if (!theirs) return 1;
    uint32_t size;
    memcpy(&size, theirs, sizeof size);
    if (size < sizeof size) return 0;
    for (size_t i = my_size; i < size; ++i)
        if (((const char*)theirs)[i]) return 0;
    memcpy(mine, theirs, size < my_size ? size : my_size);
    return 1;
}
void fake_init_config(void* config, size_t size) {
    if (!config || size < sizeof(uint32_t)) return;
    memset(config, 0, size);
    uint32_t given = (uint32_t)size;
    memcpy(config, &given, sizeof given);
}
void fake_write_info(void* theirs, size_t size, void* mine, size_t my_size) {
    uint32_t filled = (uint32_t)(size < my_size ? size : my_size);
    memcpy(mine, &filled, sizeof filled);
    memcpy(theirs, mine, filled);
}
pillion_status fake_give(const void* data, size_t n, size_t item, void* out, size_t capacity,
                         size_t* needed) {
    if (needed) *needed = n;
    if (n > capacity) return fake_error(PILLION_ERROR_BUFFER_TOO_SMALL, "the buffer is too small");
    if (n) memcpy(out, data, n * item);
    return PILLION_OK;
}

int32_t fake_next_token(size_t length, int32_t last) {
    if (length >= script_base && length - script_base < script_n)
        return script[length - script_base];
    return last >= 'a' && last < 'z' ? last + 1 : 'a';
}

uint32_t pillion_abi_version(void) { return PILLION_ABI_VERSION; }
const char* pillion_version(void) { return PILLION_VERSION "+fake"; }
const char* pillion_last_error(void) { return last_error; }

pillion_status pillion_set_log(pillion_log_callback callback, void* user) {
    BEGIN();
    log_sink = callback;
    log_user = user;
    return PILLION_OK;
}

pillion_status pillion_system_json(char* out, size_t capacity, size_t* needed) {
    BEGIN();
    static const char json[] =
        "{\"cpu\": {\"table\": \"generic\", \"tables\": [\"generic\"], \"features\": [\"sse2\"], "
        "\"threads\": 1,"
        " \"threads_from\": \"the CPUs of the affinity mask\"},"
        " \"backends\": [{\"name\": \"cpu\", \"available\": true, \"reason\": null},"
        " {\"name\": \"cuda\", \"available\": false, \"reason\": \"no driver was found\"}], "
        "\"memory_bytes\": 1073741824}";
    NEED(needed || out);
    return fake_give(json, sizeof json - 1, 1, out, capacity, needed);
}
