// The forward pass of an audio tower. gemma4a: the rows of the run are log-mel frames, its out rows
// soft tokens, four frames each. gemma4ua: a row is a frame of samples and a soft token.
#pragma once
#include "core/graph.h"
#include "media/audio_weights.h"

namespace pillion {

// Builds it. x: [frames, n_mel] or [tokens, samples]. Returns [tokens, n_embd_out].
Value build_audio(Graph& graph, const AudioParams& p, const AudioWeights& w, Value x);

}  // namespace pillion
