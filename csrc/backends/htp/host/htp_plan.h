#pragma once
#include "backends/htp/host/htp_session.h"

namespace pillion::htp {

// Runs one after another; the DSP has its own threads.
class HtpQueue final : public Queue {
  public:
    explicit HtpQueue(int n_threads) : n_threads_(n_threads) {}
    int n_threads() const override { return n_threads_; }  // of imports, on the host

  private:
    int n_threads_;
};

// What plans of a backend share.
struct Dsp {
    Arena& arena;
    Sessions& sessions;
    const char* device;  // "htp", "htp:sim"
};

// The DSP has this op for these operands, or unsupported_op: what, its value and what would do.
Result<void> htp_supports(const Graph& graph, const Node& node);
// Rows that the buffer of a page table holds.
int64_t sequences(const KvTable& table);
bool is_weight_type(DType dtype);
constexpr const char* kWeightTypes =
    "F32, F16, BF16, Q4_0 to Q8_0, Q2_K to Q6_K, IQ1_S to IQ4_XS, TQ1_0, TQ2_0, MXFP4, NVFP4";

// Throws Error on what can't be compiled.
std::unique_ptr<Plan> compile_plan(const Graph& graph, const Dsp& dsp, HtpQueue& queue);
// Scratch that such a plan would take.
size_t plan_scratch(const Graph& graph, const Dsp& dsp);

}  // namespace pillion::htp
