// Imports weights from the file to the device.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <memory>

#include "backends/cuda/device/runtime.h"
#include "core/backend.h"

namespace pillion::cuda {

class CudaQueue;

bool is_weight_type(DType dtype);
// True for a mapped table in a format that kernels read as it lies.
bool stays_in_file(const WeightSource& source);
// Bytes of its place in the weight buffer; 0: it stays in the file.
size_t weight_size(const WeightSource& source);

constexpr size_t kSliceBytes = 16u << 20;

// Two slices that are packed and copied alternately. They are page-locked, so that one is copied
// while the other is packed. If the system has no page-locked memory, they are ordinary memory, and
// the copies wait.
class Staging {
  public:
    static Result<std::unique_ptr<Staging>> make(int device_index);
    uint8_t* slice(int i) const { return locked_[i] ? locked_[i]->host() : plain_[i].get(); }

  private:
    std::unique_ptr<Memory> locked_[2];
    std::unique_ptr<uint8_t[]> plain_[2];
};

// Writes the packed form (matrix), f32 (vector), or the file's bytes (table), slice by slice: to
// `host`, which the device later uses in place, or through the queue's staging memory to `device`.
// Releases each slice's source as it goes. Fails with cancelled if it saw the queue's flag.
Result<void> import_content(const WeightSource& source, uint8_t* host, uint8_t* device,
                            CudaQueue& queue);

}  // namespace pillion::cuda
