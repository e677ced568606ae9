#include "media/vision_tower.h"

#include <string.h>

#include <algorithm>

#include "media/image_patches.h"
#include "media/resize.h"

namespace pillion {
namespace {

// A plan serves all pictures of up to so many tokens. The model's budgets, so that a picture of a
// budget finds a plan of its size.
constexpr int kClasses[] = {70, 140, 280, 560, kImageTokensMax};
// Larger plans, of some hundred MB, are dropped after a picture.
constexpr int kKeptMax = 280;

int class_of(int n_tokens) {
    for (const int most : kClasses)
        if (n_tokens <= most) return most;
    PILLION_CHECK(false);
}

}  // namespace

struct VisionTower::Machine {
    int tokens_max;
    std::vector<std::unique_ptr<Buffer>> buffers;
    VisionInputs in;
    std::unique_ptr<Plan> plan;

    Machine(const VisionTower& tower, int n_tokens) : tokens_max(n_tokens) {
        const VisionParams& p = tower.p_;
        const bool pools = p.kind == VisionKind::gemma4v;
        const int pooled = pools ? p.pool * p.pool : 1;
        in.tokens_max = n_tokens, in.patches_max = n_tokens * pooled;
        Backend& backend = tower.device_.backend;
        in.patches = add(backend, DType::f32, tower.weights_.patch_embd.width, in.patches_max);
        in.x = add(backend, DType::i32, 1, in.patches_max);
        in.y = add(backend, DType::i32, 1, in.patches_max);
        in.position_y = add(backend, DType::i32, 1, in.patches_max);
        if (pools) in.groups = add(backend, DType::i32, pooled, n_tokens);
        in.rows = add(backend, DType::f32, p.n_embd_out, n_tokens);
        plan = backend.compile(build_vision_graph(p, tower.weights_, in), tower.device_.queue)
                   .value_or_throw("vision tower");
    }
    Tensor add(Backend& backend, DType dtype, int64_t width, int rows) {
        buffers.push_back(backend.allocate(size_t(width) * size_t(rows) * 4, BufferKind::state)
                              .value_or_throw("vision tower"));
        return {dtype, Layout::rows, width, rows, 1, buffers.back().get(), 0};
    }
    template <class T>
    static T* words(const Tensor& tensor) {
        return reinterpret_cast<T*>(tensor.host());
    }
};

VisionTower::VisionTower(const GgufFile& file, const VisionParams& params,
                         const TowerDevice& device)
    : p_(params), device_(device) {
    TowerTensors tensors(file);
    list_vision(tensors, p_, weights_);
    buffer_ = tensors.import(device_);
    mappings_ = tensors.take_mappings();
}

VisionTower::~VisionTower() = default;

void VisionTower::check_grid(const ImageGrid& grid) const {
    const int side = p_.kind == VisionKind::gemma4v ? p_.pool : 1;
    const int64_t most = std::max(grid.rows, grid.cols) * int64_t(side);
    if (most > weights_.n_positions)
        fail(Status::invalid_argument,
             "an image of %d x %d tokens has %ld patches in a row, the file's position table "
             "has %ld",
             grid.rows, grid.cols, long(most), long(weights_.n_positions));
}

void VisionTower::encode(const uint8_t* rgb, int64_t height, int64_t width, const ImageGrid& grid,
                         float* out) {
    check_grid(grid);
    const int unit = p_.unit();
    std::vector<uint8_t> resized(size_t(grid.n()) * size_t(unit) * size_t(unit) * 3);
    resize_bicubic(rgb, height, width, grid.rows * unit, grid.cols * unit, resized.data());
    const int most = class_of(grid.n());
    if (most > kKeptMax) {
        Machine once(*this, most);
        return run(once, resized.data(), grid, out);
    }
    for (const auto& m : machines_)
        if (m->tokens_max == most) return run(*m, resized.data(), grid, out);
    machines_.push_back(std::make_unique<Machine>(*this, most));
    run(*machines_.back(), resized.data(), grid, out);
}

void VisionTower::run(Machine& m, const uint8_t* resized, const ImageGrid& grid, float* out) const {
    const bool pools = p_.kind == VisionKind::gemma4v;
    const int unit = p_.unit(), side = pools ? p_.patch : unit, pool = pools ? p_.pool : 1;
    // gemma4v reads values of -1 .. 1, gemma4uv of 0 .. 1.
    write_patches(resized, grid.rows * unit, grid.cols * unit, side, (pools ? 2.0f : 1.0f) / 255.0f,
                  pools ? -1.0f : 0.0f, Machine::words<float>(m.in.patches));
    write_places(grid.rows * pool, grid.cols * pool, int32_t(weights_.n_positions),
                 Machine::words<int32_t>(m.in.x), Machine::words<int32_t>(m.in.y),
                 Machine::words<int32_t>(m.in.position_y));
    if (pools) write_groups(grid, pool, Machine::words<int32_t>(m.in.groups));
    m.plan->run(one_segment(/*pos=*/0, grid.n() * pool * pool, grid.n())).value_or_throw();
    m.plan->wait().value_or_throw();
    memcpy(out, m.in.rows.host(), size_t(grid.n()) * size_t(p_.n_embd_out) * 4);
}

}  // namespace pillion
