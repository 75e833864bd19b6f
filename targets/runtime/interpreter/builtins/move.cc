// Operators that arrange one tensor's elements anew: RESHAPE, TRANSPOSE, STRIDED_SLICE, REVERSE_V2, TILE, BROADCAST_TO,
// SPACE_TO_DEPTH, DEPTH_TO_SPACE.
#include "../../arrangement.h"
#include "../builtin.h"
#include "copy.h"

namespace bnncc {
namespace {

class Move : public Builtin {
 public:
  int32_t code = 0;

  bool prepare(Setup& setup, const Team&) override {
    const bool is_depth = code == code::kSpaceToDepth || code == code::kDepthToSpace;
    const int inputs = is_depth ? 1 : code == code::kStridedSlice ? 4 : 2;
    if (!setup.expect(inputs, 1)) return false;
    Arrangement arrangement;
    const char* const problem = is_depth ? arrange_blocks(setup, &arrangement) : arrange(setup, &arrangement);
    if (problem != nullptr) return setup.fail(problem);
    int64_t elements = arrangement.shape().elements();
    for (int i = 0; i < arrangement.axes(); ++i) {
      const Arrangement::Axis& axis = arrangement.axis(i);
      elements /= axis.size;
      copy_.add_axis(axis.size, axis.stride, elements);
    }
    copy_.start(arrangement.start(), 0);
    element_ = element_size(setup.type(0));
    return setup.set_output(0, setup.type(0), arrangement.shape());
  }

  void run(const Call& call) const override {
    copy_.run(call.team(), call.input<void>(0), call.output<void>(0), element_);
  }

 private:
  // Null, or what is wrong.
  const char* arrange_blocks(Setup& setup, Arrangement* arrangement) const {
    const int32_t block = setup.options().number<int32_t>(0, 0);
    return code == code::kSpaceToDepth ? arrangement->space_to_depth(setup.shape(0), block)
                                       : arrangement->depth_to_space(setup.shape(0), block);
  }

  const char* arrange(Setup& setup, Arrangement* arrangement) const {
    const Shape x = setup.shape(0);
    const bool counts_axes = code == code::kTranspose || code == code::kStridedSlice || code == code::kTile;
    const int32_t* const numbers = setup.constant<int32_t>(1, abi::kInt32, counts_axes ? x.rank : -1);
    if (numbers == nullptr) return setup.problem();
    const int64_t count = setup.shape(1).elements();
    switch (code) {
      case code::kReshape:
        return setup.shape(1).rank == 1 ? arrangement->reshape(x, numbers, count) : "its shape is no list";
      case code::kTranspose: return arrangement->transpose(x, numbers);
      case code::kReverseV2: return arrangement->reverse(x, numbers, count);
      case code::kTile: return arrangement->tile(x, numbers);
      case code::kStridedSlice: {
        const int32_t* const ends = setup.constant<int32_t>(2, abi::kInt32, x.rank);
        const int32_t* const steps = setup.constant<int32_t>(3, abi::kInt32, x.rank);
        if (ends == nullptr || steps == nullptr) return setup.problem();
        return arrangement->slice(x, numbers, ends, steps, read_slice(setup.options()));
      }
      default: return arrangement->broadcast_to(x, numbers, count);
    }
  }

  int64_t element_ = 0;
  Copy copy_;
};

}  // namespace

Builtin* create_move(int32_t code) { return create_with_code<Move>(code); }

}  // namespace bnncc
