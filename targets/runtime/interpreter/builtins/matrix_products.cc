// FULLY_CONNECTED with constant weights, and BATCH_MATMUL of two tensors.
#include "../builtin.h"
#include "activation.h"
#include "broadcast.h"
#include "shares.h"
#include "weights.h"

namespace bnncc {
namespace {

class FullyConnected : public Builtin {
 public:
  bool prepare(Setup& setup, const Team& team) override {
    if (!setup.expect(3, 1, 1)) return false;
    const Shape x = setup.shape(0);
    const Shape filter = setup.shape(1);
    if (setup.type(0) != abi::kFloat32) return setup.fail("it does not take this type");
    const FlatbufferTable& options = setup.options();
    if (options.number<int8_t>(1, 0) != 0) return setup.fail("its weights' format is unknown");
    if (filter.rank != 2 || x.elements() % filter.dims[1] != 0) return setup.fail("its weights do not fit its input");
    if (!clamp_.read(options.number<int8_t>(0, 0))) return setup.fail("its activation is unknown");
    rows_ = x.elements() / filter.dims[1];
    Shape y;
    if (options.number<uint8_t>(2, 0) != 0) {
      if (x.rank == 0 || x.channels() != filter.dims[1]) return setup.fail("its weights do not fit its input");
      y = x;
      y.dims[y.rank - 1] = filter.dims[0];
    } else {
      y.rank = 2;
      y.dims[0] = static_cast<int>(rows_);
      y.dims[1] = filter.dims[0];
    }
    if (!setup.set_output(0, abi::kFloat32, y)) return false;
    if (!read_matrix(setup, &matrix_)) return false;
    const int64_t block = round_up(min(kMostRows, ceil_div(rows_, team.threads())), setup.kernels()->float_rows);
    shares_.plan(team, rows_, block, matrix_.panels());
    return true;
  }

  void run(const Call& call) const override {
    const float* const x = call.input<float>(0);
    float* const y = call.output<float>(0);
    shares_.run(call.team(), [&](int64_t begin, int64_t end, int64_t first, int64_t last, int) {
      const int64_t depth = matrix_.depth();
      const FloatRows rows = {x + begin * depth, depth, end - begin, 1, 0, depth};
      matrix_.multiply(rows, first, last, clamp_, y + begin * matrix_.outputs());
    });
  }

 private:
  static constexpr int64_t kMostRows = 64;  // of a task

  FloatMatrix matrix_;
  Clamp clamp_;
  int64_t rows_ = 0;
  Shares shares_;
};

// y[…, m, n] = Σ_k a[…, m, k] · b[…, k, n]; either may be stored with its last two axes swapped.
class BatchMatmul : public Builtin {
 public:
  bool prepare(Setup& setup, const Team&) override {
    add_scaled_ = setup.kernels()->add_scaled;
    if (!setup.expect(2, 1)) return false;
    Shape shapes[2] = {setup.shape(0), setup.shape(1)};
    if (setup.type(0) != abi::kFloat32 || setup.type(1) != abi::kFloat32)
      return setup.fail("it does not take this type");
    if (shapes[0].rank < 2 || shapes[1].rank < 2) return setup.fail("its inputs are no matrices");
    for (int i = 0; i < 2; ++i) {
      const bool swaps = setup.options().number<uint8_t>(i, 0) != 0;
      Shape& shape = shapes[i];
      const int64_t width = shape.dims[shape.rank - 1];
      rows_[i] = shape.dims[shape.rank - 2];
      columns_[i] = width;
      row_steps_[i] = width;
      column_steps_[i] = 1;
      if (swaps) {
        columns_[i] = rows_[i];
        rows_[i] = width;
        row_steps_[i] = 1;
        column_steps_[i] = width;
      }
      sizes_[i] = rows_[i] * columns_[i];
      shape.rank -= 2;
    }
    if (columns_[0] != rows_[1]) return setup.fail("its inputs do not fit each other");
    Shape y;
    if (!broadcast(shapes[0], shapes[1], &y)) return setup.fail("its inputs do not broadcast");
    if (y.rank > kMaxRank - 2) return setup.fail("its output has too many axes");
    batches_ = broadcast_loop(shapes, 2, y);
    y.dims[y.rank++] = static_cast<int>(rows_[0]);
    y.dims[y.rank++] = static_cast<int>(columns_[1]);
    return setup.set_output(0, abi::kFloat32, y);
  }

  void run(const Call& call) const override {
    const float* const a = call.input<float>(0);
    const float* const b = call.input<float>(1);
    float* const y = call.output<float>(0);
    // The batches one after the other, the rows of each in parallel.
    const Team alone(nullptr, 1);
    batches_.run(alone, [&](const int64_t* offsets, int64_t count) {
      for (int64_t i = 0; i < count; ++i) {
        multiply(call.team(), a + (offsets[0] + i * batches_.inner_stride(0)) * sizes_[0],
                 b + (offsets[1] + i * batches_.inner_stride(1)) * sizes_[1],
                 y + (offsets[2] + i) * rows_[0] * columns_[1]);
      }
    });
  }

 private:
  void multiply(const Team& team, const float* a, const float* b, float* y) const {
    const int64_t depth = columns_[0];
    const int64_t width = columns_[1];
    team.run(rows_[0], [&](int64_t row, int) {
      const float* const left = a + row * row_steps_[0];
      float* const to = y + row * width;
      memset(to, 0, static_cast<size_t>(width) * sizeof(float));
      if (column_steps_[1] == 1) {
        for (int64_t k = 0; k < depth; ++k) add_scaled_(left[k * column_steps_[0]], b + k * row_steps_[1], to, width);
      } else {
        for (int64_t n = 0; n < width; ++n) {
          float sum = 0;
          for (int64_t k = 0; k < depth; ++k) sum += left[k * column_steps_[0]] * b[n * column_steps_[1] + k];
          to[n] = sum;
        }
      }
    });
  }

  // Of both inputs, as the product takes them.
  int64_t rows_[2] = {};
  int64_t columns_[2] = {};
  int64_t row_steps_[2] = {};
  int64_t column_steps_[2] = {};
  int64_t sizes_[2] = {};
  Loop batches_;
  decltype(Kernels::add_scaled) add_scaled_ = nullptr;
};

}  // namespace

Builtin* create_fully_connected(int32_t) { return create<FullyConnected>(); }
Builtin* create_batch_matmul(int32_t) { return create<BatchMatmul>(); }

}  // namespace bnncc
