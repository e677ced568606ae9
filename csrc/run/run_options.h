// The command line of pillion-run: the flags of `pillion run`, without those that need Python (chat
// templates, JSON, stop strings).
#pragma once
#include <math.h>
#include <stdint.h>

#include <stdexcept>
#include <string>
#include <vector>

namespace pillion::run {

struct UsageError : std::runtime_error { using std::runtime_error::runtime_error; };

struct Medium {  // a file that the prompt shows or plays
    bool is_image;
    std::string path;
};

struct Options {
    std::string model, drafter = "none", prompt, file;
    std::string device = "auto", draft_device = "auto", kv_type = "f16", flash_attn = "auto",
                draft_max = "auto";
    std::string draft_sampling = "greedy";
    int n_predict = -1, n_ctx = 0, n_threads = 0, n_batch = 0, n_gpu_layers = -1;
    double temperature = NAN, top_k = NAN, top_p = NAN, min_p = NAN,
           repeat_penalty = NAN;  // NAN: what the file recommends
    std::vector<Medium> media;
    std::string mmproj;
    int image_tokens = 0;  // what the mmproj file says
    double p_min = 0;
    int64_t seed = -1;
    bool has_prompt = false, has_file = false, dense_head = false, lookup = false, no_mmap = false,
         strict = false, help = false, version = false;
    bool swa_full = false;
};

// Throws UsageError with one sentence that names the option and the value.
Options read_options(int argc, char** argv);
std::string help_text();

}  // namespace pillion::run
