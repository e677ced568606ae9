/* Greedy generation through the C ABI, for comparing kernel tables, emulated processors and builds.
 * Usage: generate MODEL N TOKEN...   prints the table in use on stderr and the ids of N generated
 *                                    tokens on one line of stdout.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pillion.h"

static void need(pillion_status status, const char* what) {
    if (status == PILLION_OK) return;
    fprintf(stderr, "%s: code %d: %s\n", what, (int)status, pillion_last_error());
    exit(1);
}

/* The value of "table" in the library's description of the machine. */
static void print_table(void) {
    char json[8192];
    size_t n = 0;
    need(pillion_system_json(json, sizeof json - 1, &n), "system");
    json[n] = 0;
    const char* name = strstr(json, "\"table\"");
    name = name ? strchr(name + 7, '"') : NULL;
    if (name) fprintf(stderr, "table: %.*s\n", (int)strcspn(name + 1, "\""), name + 1);
}

int main(int argc, char** argv) {
    if (argc < 4) return fprintf(stderr, "usage: generate MODEL N TOKEN...\n"), 2;
    const int n = atoi(argv[2]);
    const size_t n_prompt = (size_t)(argc - 3);
    int32_t* prompt = malloc(n_prompt * sizeof *prompt);
    for (size_t i = 0; i < n_prompt; ++i) prompt[i] = atoi(argv[3 + i]);
    print_table();

    pillion_model* model = NULL;
    pillion_context* context = NULL;
    pillion_sampler* sampler = NULL;
    need(pillion_model_open(argv[1], NULL, &model), "open");
    need(pillion_context_new(model, NULL, &context), "context");
    pillion_sampler_config greedy;
    pillion_sampler_config_init(&greedy, sizeof greedy);
    need(pillion_sampler_new(&greedy, &sampler), "sampler");

    need(pillion_context_eval(context, prompt, n_prompt, 1), "prompt");
    for (int i = 0; i < n; ++i) {
        int32_t token = 0;
        need(pillion_sampler_sample(sampler, context, 0, &token), "sample");
        printf("%s%d", i ? " " : "", (int)token);
        if (i + 1 < n) need(pillion_context_eval(context, &token, 1, 1), "decode");
    }
    printf("\n");

    pillion_sampler_free(sampler);
    pillion_context_free(context);
    pillion_model_free(model);
    free(prompt);
    return 0;
}
