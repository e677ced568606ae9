/* Bytes and five special tokens. */
#include <stdio.h>

#include "fake_state.h"

static const char* const kSpecial[] = {"<bos>", "<eos>", "<turn>", "</turn>", "<image>"};

void pillion_tokenizer_free(pillion_tokenizer* tokenizer) {
    if (tokenizer) fake_free_tokenizer(tokenizer);
}

pillion_status pillion_tokenizer_encode(const pillion_tokenizer* tokenizer, const char* text,
                                        size_t n, int32_t add_special, int32_t parse_special,
                                        int32_t* tokens, size_t capacity, size_t* needed) {
    BEGIN();
    NEED(tokenizer && (text || !n) && needed);
    int32_t* found = malloc((n + 1) * sizeof *found);
    size_t count = 0;
    if (add_special) found[count++] = BOS;
    for (size_t i = 0; i < n;) {
        int32_t token = (unsigned char)text[i];
        size_t length = 1;
        for (int s = 0; parse_special && s < 5; ++s) {
            size_t width = strlen(kSpecial[s]);
            if (width <= n - i && memcmp(text + i, kSpecial[s], width) == 0)
                token = N_BYTES + s, length = width;
        }
        found[count++] = token;
        i += length;
    }
    pillion_status status = fake_give(found, count, sizeof *found, tokens, capacity, needed);
    free(found);
    return status;
}

static size_t spell(int32_t token, int print_special, char* out) {
    if (token < N_BYTES) return out[0] = (char)token, 1;
    if (!print_special) return 0;
    const char* name = kSpecial[token - N_BYTES];
    memcpy(out, name, strlen(name));
    return strlen(name);
}

pillion_status pillion_tokenizer_decode(const pillion_tokenizer* tokenizer, const int32_t* tokens,
                                        size_t n, int32_t print_special, char* out, size_t capacity,
                                        size_t* needed) {
    BEGIN();
    NEED(tokenizer && (tokens || !n) && needed);
    char* text = malloc(8 * n + 1);
    size_t length = 0;
    for (size_t i = 0; i < n; ++i) {
        if (!known(tokens[i]))
            return free(text), fake_invalid("a token is not in the vocabulary of 261");
        length += spell(tokens[i], print_special, text + length);
    }
    pillion_status status = fake_give(text, length, 1, out, capacity, needed);
    free(text);
    return status;
}

pillion_status pillion_tokenizer_token_bytes(const pillion_tokenizer* tokenizer, int32_t token,
                                             int32_t print_special, char* out, size_t capacity,
                                             size_t* needed) {
    BEGIN();
    NEED(tokenizer && needed && known(token));
    char text[16];
    return fake_give(text, spell(token, print_special, text), 1, out, capacity, needed);
}

pillion_status pillion_tokenizer_token_text(const pillion_tokenizer* tokenizer, int32_t token,
                                            char* out, size_t capacity, size_t* needed,
                                            int32_t* type) {
    BEGIN();
    NEED(tokenizer && needed && known(token));
    char text[16];
    size_t n = token < N_BYTES ? (size_t)sprintf(text, "<0x%02X>", (unsigned)token)
                               : spell(token, 1, text);
    pillion_status status = fake_give(text, n, 1, out, capacity, needed);
    if (!status && type) *type = token < N_BYTES ? PILLION_TOKEN_BYTE : PILLION_TOKEN_CONTROL;
    return status;
}

pillion_status pillion_tokenizer_get_info(const pillion_tokenizer* tokenizer,
                                          pillion_tokenizer_info* info, size_t size) {
    BEGIN();
    NEED(tokenizer && info && size >= sizeof(uint32_t));
    pillion_tokenizer_info mine = {.n_tokens = N_VOCAB,
                                   .bos = BOS,
                                   .eos = EOS,
                                   .unk = -1,
                                   .pad = -1,
                                   .adds_bos = 1,
                                   .n_end = 2,
                                   .end = {EOS, TURN_END},
                                   .model = "bytes"};
    fake_write_info(info, size, &mine, sizeof mine);
    return PILLION_OK;
}

pillion_status pillion_tokenizer_suppressed(const pillion_tokenizer* tokenizer, int32_t* tokens,
                                            size_t capacity, size_t* needed) {
    BEGIN();
    NEED(tokenizer && needed);
    return fake_give(&tokenizer->suppressed, tokenizer->suppressed >= 0, sizeof *tokens, tokens,
                     capacity, needed);
}
