// Captured runs by what they serve. Each holds driver memory that no count knows, so there are only
// so many: the one that served least recently makes room.
#pragma once
#include <algorithm>
#include <map>
#include <memory>

#include "backends/cuda/device/runtime.h"

namespace pillion::cuda {

template <class Key>
class ReplayCache {
  public:
    explicit ReplayCache(size_t most) : most_(most) {}

    // Null: there is none yet.
    const Replay* find(const Key& key) {
        const auto at = replays_.find(key);
        if (at == replays_.end()) return nullptr;
        at->second.used = ++clock_;
        return at->second.replay.get();
    }
    // None that goes may be running. Returns the replay, which may be null.
    const Replay* add(const Key& key, std::unique_ptr<Replay> replay) {
        if (!replay) return nullptr;
        if (replays_.size() >= most_)
            replays_.erase(std::min_element(replays_.begin(), replays_.end(),
                                            [](const auto& a, const auto& b) {
                                                return a.second.used < b.second.used;
                                            }));
        return (replays_[key] = {std::move(replay), ++clock_}).replay.get();
    }
    size_t size() const { return replays_.size(); }

  private:
    struct Entry {
        std::unique_ptr<Replay> replay;
        uint64_t used = 0;
    };
    std::map<Key, Entry> replays_;
    size_t most_;
    uint64_t clock_ = 0;
};

}  // namespace pillion::cuda
