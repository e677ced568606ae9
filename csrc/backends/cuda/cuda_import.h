// Weights on their way from the file to the device.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <memory>

#include "backends/cuda/device/runtime.h"
#include "core/backend.h"

namespace pillion::cuda {

class CudaQueue;

bool is_weight_type(DType dtype);
bool stays_in_file(
    const WeightSource& source);  // a mapped table in a format that is read as it lies
size_t weight_size(
    const WeightSource& source);  // of its place in the weight buffer; 0: it stays in the file

constexpr size_t kSliceBytes = 16u << 20;

// Two slices that are packed and copied in turns. Page-locked, so that one is copied while the
// other is packed; ordinary memory where the system gives no such, and then the copies wait.
class Staging {
  public:
    // Null with the reason.
    static std::unique_ptr<Staging> make(int device_index, Status& status, Reason& reason);
    uint8_t* slice(int i) const { return locked_[i] ? locked_[i]->host() : plain_[i].get(); }

  private:
    std::unique_ptr<Memory> locked_[2];
    std::unique_ptr<uint8_t[]> plain_[2];
};

// Packed (matrix), f32 (vector), or the file's bytes (table), slice by slice: to `host`, which the
// device has later as it is, or through the queue's staging memory to `device`. Gives back each
// slice's source as it goes. Cancelled when the queue's flag was seen.
Status import_content(const WeightSource& source, uint8_t* host, uint8_t* device, CudaQueue& queue,
                      Reason& reason);

}  // namespace pillion::cuda
