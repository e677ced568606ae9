// One process on the DSP, with the chunks that it has mapped and the plans that it has prepared. It
// connects when first needed, and again after a loss. The host owns the memory, so a new process
// gets the same chunks and plans and continues.
#pragma once
#include <map>
#include <mutex>
#include <set>
#include <vector>

#include "backends/htp/host/htp_memory.h"

namespace pillion::htp {

// The part of a plan that runs on one session.
struct Program {
    uint32_t number = 0;
    htp_address at = {HTP_NOWHERE, 0, 0};  // address of its htp_plan
    // number of the connection that knows it; 0: not prepared yet
    uint64_t prepared = 0;
};

class Session {
  public:
    Session(Device& device, int number) : device_(device), number_(number) {}

    // Connects and returns the DSP's facts. The code of a failure distinguishes an absent, a busy
    // and a lost DSP.
    Result<htp_info> info();
    // Maps the chunk into this session. out_of_memory, with the sizes, if its address space is
    // full.
    Result<void> use(const Chunk& chunk);
    void forget(const Chunk& chunk);  // before its memory is freed

    // A status other than HTP_OK in the answer is not a failure of the call.
    Result<htp_answer> add(Program& program);
    void remove(const Program& program);
    Result<htp_answer> run(Program& program, htp_address state, htp_address cancel,
                           const Watch& watch);

    size_t mapped_bytes() const;
    int connections() const;  // number of processes started

  private:
    Result<void> open();
    Result<void> greet();
    Result<void> exchange(htp_message& message, const Watch& watch);
    Result<void> map(const Chunk& chunk);
    Result<htp_answer> prepare(Program& program);
    Failure lost(const Failure& why);

    Device& device_;
    int number_;
    mutable std::mutex mutex_;
    std::unique_ptr<Channel> channel_;
    htp_info info_ = {};
    uint64_t connection_ = 0;  // number of the current connection
    uint32_t sequence_ = 0;
    std::map<uint32_t, const Chunk*> wanted_;  // chunks by index
    std::set<uint32_t> numbers_;               // numbers of plans
    size_t mapped_ = 0;
};

// The sessions of a backend. More than one are opened only for weights that need them.
class Sessions {
  public:
    explicit Sessions(Device& device) : device_(device) {}
    Session& at(int number);
    void forget(const Chunk& chunk);
    Json to_json() const;

  private:
    Device& device_;
    mutable std::mutex mutex_;
    std::vector<std::unique_ptr<Session>> list_;
};

}  // namespace pillion::htp
