// One process on the DSP with what it knows: blocks mapped, plans prepared. Connects when first
// needed and again after a loss: memory is the host's, so a new process is given the same blocks
// and plans and goes on.
#pragma once
#include <map>
#include <mutex>
#include <set>
#include <vector>

#include "backends/htp/host/htp_memory.h"

namespace pillion::htp {

// A plan's part on one session.
struct Program {
    uint32_t number = 0;
    htp_address at = {HTP_NOWHERE, 0, 0};  // its htp_plan
    uint64_t prepared = 0;                 // the connection that knows it; 0: none yet
};

class Session {
  public:
    Session(Line& line, int number) : line_(line), number_(number) {}

    // The DSP's facts; connects. Status of a failure says whether there is none, it is busy, or it
    // was lost.
    Status info(htp_info& info, Reason& reason);
    // The block is seen by this session from now on. out_of_memory with the sizes when its address
    // space is full.
    Status use(const Block& block, Reason& reason);
    void forget(const Block& block);  // before its memory goes

    // An answer with another status than HTP_OK is not a failure of the call.
    Status add(Program& program, htp_answer& answer, Reason& reason);
    void remove(const Program& program);
    Status run(Program& program, htp_address state, htp_address cancel, const Watch& watch,
               htp_answer& answer, Reason& reason);

    size_t mapped_bytes() const;
    int connections() const;  // how often a process was started

  private:
    Status open(Reason& reason);
    Status exchange(htp_message& message, const Watch& watch, Reason& reason);
    Status map(const Block& block, Reason& reason);
    Status prepare(Program& program, htp_answer& answer, Reason& reason);
    Status lost(Status status, Reason& reason);

    Line& line_;
    int number_;
    mutable std::mutex mutex_;
    std::unique_ptr<Transport> transport_;
    htp_info info_ = {};
    uint64_t connection_ = 0;  // counts them
    uint32_t sequence_ = 0;
    std::map<uint32_t, const Block*> wanted_;  // by index
    std::set<uint32_t> numbers_;               // of plans
    size_t mapped_ = 0;
};

// The sessions of a backend. More than one are opened only for weights that need them.
class Sessions {
  public:
    explicit Sessions(Line& line) : line_(line) {}
    Session& at(int number);
    void forget(const Block& block);
    Json to_json() const;

  private:
    Line& line_;
    mutable std::mutex mutex_;
    std::vector<std::unique_ptr<Session>> list_;
};

}  // namespace pillion::htp
