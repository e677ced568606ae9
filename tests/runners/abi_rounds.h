/* Part of abi_test.c, which has OK, INVALID and CHECK: rounds of a pair. */
/* A round in one call and in three, under masks, by a pair without a model. */
static void run_rounds(pillion_model* model) {
    pillion_context* context = NULL;
    pillion_pair* pair = NULL;
    pillion_sampler* sampler = NULL;
    pillion_model_info info;
    OK(pillion_model_get_info(model, &info, sizeof info));
    const size_t words = ((size_t)info.n_vocab + 31) / 32;
    OK(pillion_context_new(model, NULL, &context));
    INVALID(pillion_pair_new(context, 4, NULL, NULL, &pair));
    INVALID(pillion_pair_new(context, PILLION_DRAFTER_MODEL, NULL, NULL, &pair));
    INVALID(pillion_pair_new(context, PILLION_DRAFTER_NONE, model, NULL, &pair));
    OK(pillion_pair_new(context, PILLION_DRAFTER_LOOKUP, NULL, NULL, &pair));
    OK(pillion_sampler_new(NULL, &sampler));
    const int32_t prompt[] = {5, 6, 7, 5, 6}, forced[] = {40, 41};
    int32_t tokens[PILLION_DRAFT_MAX + 1], drafts[PILLION_DRAFT_MAX], first = -1;
    size_t n = 0, room = 99, length = 0, row = 99;
    pillion_round_info round;
    pillion_choice choice;
    pillion_choice_init(&choice, sizeof choice);
    CHECK(choice.struct_size == sizeof choice);
#define TAKE(choice) \
    pillion_pair_take(pair, sampler, 9, NULL, 0, choice, tokens, 9, &n, &round, sizeof round)

    OK(pillion_pair_sync(pair, prompt, 5, NULL));
    OK(pillion_pair_step(pair, sampler, 0, 9, NULL, 0, &first, 1, &n, &round, sizeof round));
    OK(pillion_pair_sync(pair, prompt, 5, NULL));
    INVALID(TAKE(NULL)); /* nothing was run */
    OK(pillion_pair_propose(pair, sampler, 3, 9, drafts, PILLION_DRAFT_MAX, &n));
    CHECK(n == 0); /* right after a prompt */
    OK(pillion_pair_room(pair, &room));
    CHECK(room == 0);
    INVALID(pillion_pair_run(pair, forced, 1, NULL));
    OK(pillion_pair_run(pair, NULL, 0, &row));
    CHECK(row == 0);
    INVALID(pillion_pair_run(pair, NULL, 0, NULL));
    INVALID(pillion_pair_room(pair, &room));
    OK(TAKE(NULL));
    CHECK(n == 1 && tokens[0] == first && round.forced == 0);

    OK(pillion_pair_room(pair, &room));
    CHECK(room == PILLION_DRAFT_MAX);
    OK(pillion_pair_run(pair, forced, 2, NULL));
    uint32_t* masks = calloc(3 * words, sizeof *masks);
    choice.masks = masks;
    choice.n_mask_words = 2 * words;
    INVALID(TAKE(&choice)); /* masks of two rows, three were run */
    choice.n_mask_words = 3 * words;
    masks[40 / 32] |= 1u << 40 % 32;
    masks[words + 41 / 32] |= 1u << 41 % 32;
    INVALID(TAKE(&choice)); /* the third row's allows nothing */
    masks[2 * words + 45 / 32] |= 1u << 45 % 32;
    OK(TAKE(&choice));
    CHECK(n == 3 && tokens[0] == 40 && tokens[1] == 41 && tokens[2] == 45);
    CHECK(round.drafted == 0 && round.accepted == 0 && round.forced == 2);
    OK(pillion_sampler_sample_masked(sampler, context, 0, masks + words, words, tokens));
    CHECK(tokens[0] == 41);
    INVALID(pillion_sampler_sample_masked(sampler, context, 0, NULL, words, tokens));
    INVALID(pillion_sampler_sample_masked(sampler, context, 0, masks, words + 1, tokens));
    const float* logits = NULL;
    OK(pillion_context_logits(context, 1, &logits, NULL));
    const size_t n_vocab = (size_t)info.n_vocab;
    OK(pillion_sampler_sample_logits(sampler, logits, n_vocab, masks + words, words, tokens));
    CHECK(tokens[0] == 41);
    free(masks);

    OK(pillion_context_length(context, &length, NULL));
    OK(pillion_pair_run(pair, forced, 2, NULL));
    OK(pillion_pair_abandon(pair, NULL));
    OK(pillion_context_length(context, &n, NULL));
    CHECK(n == length);
    OK(pillion_pair_run(pair, forced, 2, NULL));
    pillion_choice_init(&choice, sizeof choice);
    choice.chosen = forced, choice.n_chosen = 2;
    OK(pillion_pair_take(pair, NULL, 9, NULL, 0, &choice, tokens, 9, &n, NULL, 0));
    CHECK(n == 2 && tokens[1] == 41);

    INVALID(pillion_pair_propose(pair, NULL, 1, 9, drafts, PILLION_DRAFT_MAX, &n));
    INVALID(pillion_pair_propose(NULL, sampler, 1, 9, drafts, PILLION_DRAFT_MAX, &n));
    INVALID(pillion_pair_run(NULL, NULL, 0, NULL));
    INVALID(pillion_pair_run(pair, NULL, 1, NULL));
    INVALID(pillion_pair_room(pair, NULL));
    INVALID(pillion_pair_abandon(NULL, NULL));
    pillion_sampler_free(sampler);
    pillion_pair_free(pair);
    pillion_context_free(context);
#undef TAKE
}
