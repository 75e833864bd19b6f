// The operators of a partition, and what they see of it.
//
// A partition runs in groups of operators, each group tile by tile: a tile is a run of pixels (positions of all axes
// but the last), and every operator of the group handles one tile before the next tile begins.  What passes between
// operators of a group then stays in the cache, and what only they read is never written to memory.  Where an operator
// makes a line of two, as a pooling does, tiles are runs of whole such lines, and its output's part of a tile has fewer
// pixels.  Every operator computes the same numbers as on its own, so results do not depend on the grouping.
#pragma once

#include "abi.h"
#include "geometry.h"
#include "kernels/kernels.h"
#include "memory.h"

namespace bnncc {

constexpr int kMaxRank = 8;
constexpr int kMaxInputs = 8;
constexpr int kMostChained = 16;

struct Shape {
  int rank = 0;
  int dims[kMaxRank] = {};

  int64_t elements() const {
    int64_t product = 1;
    for (int i = 0; i < rank; ++i) product = checked_product(product, dims[i]);
    return product;
  }
  int channels() const { return rank == 0 ? 1 : dims[rank - 1]; }
  bool operator==(const Shape& other) const {
    if (rank != other.rank) return false;
    for (int i = 0; i < rank; ++i) {
      if (dims[i] != other.dims[i]) return false;
    }
    return true;
  }
};

// A tensor that an operator of the partition reads or writes.
struct Value {
  int tensor = -1;  // index in the interpreter
  abi::Type type = abi::kNoType;
  Shape shape;
  abi::QuantizationParams quantization = {0, 0};    // where it has one scale
  const abi::AffineQuantization* scales = nullptr;  // where it has some
  const void* constant = nullptr;                   // the data of a tensor that never changes
  int64_t pixels = 0;                               // product of all axes but the last
  int64_t row_bytes = 0;                            // of one pixel

  // Where the data lies: in the interpreter's tensor (a constant, or what leaves or enters the partition), in the
  // partition's arena (read by a later group), in a tile's scratch, a few lines of it in the scratch of its reader, or
  // nowhere but in registers (within a chain).
  enum class Home { kTensor, kArena, kTile, kBuffer, kRegister } home = Home::kTensor;
  int64_t offset = 0;    // in the arena or the scratch
  char* base = nullptr;  // of the data, but for Home::kTile

  int writer = -1;       // operator of the partition that writes it; -1: it comes from outside
  int last_reader = -1;  // last operator of the partition that reads it; -1: none
  int reads = 0;         // inputs of operators of the partition that it is
  bool leaves = false;   // whether anything outside reads it
};

// Reads what a tensor of the graph is, and where it is a constant, its data.  Null, or what is wrong with it.
const char* read_tensor(const abi::Tensor& tensor, Value* value);

// How an operator's output depends on its input: each run of `output` pixels, from the first on, is made of a run of
// `input` pixels, from the first on.  0: it may be made of any.
struct Locality {
  int64_t input = 1;
  int64_t output = 1;

  bool is_pointwise() const { return input == 1 && output == 1; }
};

// What an operator works on: pixels [begin, end) of its output, or parts where it has some.
struct Tile {
  int64_t begin = 0;
  int64_t end = 0;
  const Value* values = nullptr;
  char* scratch = nullptr;

  int64_t pixels() const { return end - begin; }

  // The first of the tile's rows of a value that has a row for each output pixel.
  template <typename T>
  T* rows(int value) const {
    const Value& v = values[value];
    char* const data = v.home == Value::Home::kTile ? scratch + v.offset : v.base + begin * v.row_bytes;
    return reinterpret_cast<T*>(data);
  }

  // The rows from pixel `first` on of the input of an operator of this locality, those that it needs for the tile among
  // them: all there are, or those that the tile has.
  template <typename T>
  const T* map(int value, const Locality& locality, int64_t* first) const {
    const bool is_in_tile = values[value].home == Value::Home::kTile;
    *first = is_in_tile ? begin / locality.output * locality.input : 0;
    return is_in_tile ? rows<T>(value) : all<T>(value);
  }

  // The output of an operator that has parts.
  template <typename T>
  T* whole(int value) const {
    return reinterpret_cast<T*>(values[value].base);
  }

  // All rows of a value that an earlier group or operator outside has written.
  template <typename T>
  const T* all(int value) const {
    return reinterpret_cast<const T*>(values[value].base);
  }
};

// What operators need while they are prepared.  Without a context it reports nothing.
class Preparation {
 public:
  Preparation(abi::Context* context, Value* values, const Kernels* kernels)
      : context_(context), values_(values), kernels_(kernels) {}

  Value& value(int index) const { return values_[index]; }
  const Kernels* kernels() const { return kernels_; }

  // The constant data of input `index`, or null unless it is a constant of this type and number of elements.
  template <typename T>
  const T* constant(int index, abi::Type type, int64_t elements) const {
    const Value& v = values_[index];
    const bool fits = v.constant != nullptr && v.type == type && v.shape.elements() == elements;
    return fits ? static_cast<const T*>(v.constant) : nullptr;
  }

  // Gives the output its shape; false where it is too large.
  bool set_shape(int index, const Shape& shape) const;

  // Reports what is wrong and returns false.
  template <typename... Arguments>
  bool fail(const char* format, Arguments... arguments) const {
    if (context_ == nullptr) return false;
    context_->ReportError(context_, "bnncc: node %d, %s: ", node_, operator_name_);
    context_->ReportError(context_, format, arguments...);
    return false;
  }

  void enter(int node, const char* operator_name) {
    node_ = node;
    operator_name_ = operator_name;
  }

 private:
  abi::Context* context_;
  Value* values_;
  const Kernels* kernels_;
  int node_ = -1;
  const char* operator_name_ = "";
};

class Operator {
 public:
  virtual ~Operator() = default;  // call it by `destroy` (memory.h)

  virtual const char* name() const = 0;

  // Whether its node has several outputs, and an operator for each of them.
  virtual bool is_one_of_several() const { return false; }

  // Reads the node's own options, which may be gone later.  Null, or what is wrong.
  virtual const char* parse(const abi::Node&) { return nullptr; }

  // Whether all that it does is to pad float maps; and whether it computes the same from a map that was not padded,
  // which its input then is.
  virtual bool is_padding(const abi::Context&, const abi::Node&, Padding*) const { return false; }
  virtual bool take_padding(const Padding&) { return false; }

  // Checks the inputs, gives the output its shape, and makes ready whatever `run` needs; false after a report.
  virtual bool prepare(Preparation&) = 0;

  // Whether input `index` may be left out (-1 in the file).
  virtual bool may_be_absent(int) const { return false; }

  // Where it has several inputs, it is that of each with as many pixels as its locality asks for.
  virtual Locality locality() const { return {1, 1}; }

  // Of how many parts it is made, one independent of the other, where its output has too few pixels for all threads to
  // get some; else 0.  It then runs by itself, and knows where its output lies as a whole.
  virtual int64_t parts() const { return 0; }

  // Operators in a row can be a chain: the first runs them all, and passes on to each what the one before it computes.
  // Whether it is of a kind that chains are made of; when it is prepared, whether one may begin with it, and whether it
  // may be in one behind the operator that writes its input `value`.
  virtual bool is_chainable() const { return false; }
  virtual bool starts_chain() const { return false; }
  virtual bool continues_chain(int /*value*/) const { return false; }

  // Of the filters that it reads for every tile.
  virtual int64_t filter_bytes() const { return 0; }

  // One that makes its output from whatever is in memory, any pixels of it, may be asked for a few at a time by the
  // only reader: a pooling whose windows overlap.  The map in between then never is as a whole.
  virtual bool makes_on_demand() const { return false; }
  // Pixels [begin, end) of its output, to y.
  virtual void make(const Tile&, int64_t /*begin*/, int64_t /*end*/, float* /*y*/) const {}
  // Of such a reader, when it is prepared: the pixels of its output that it makes together, and those of its input that
  // it then asks for; 0 where it reads the whole map, or a tile of it.
  virtual int64_t drawing_pixels() const { return 0; }
  virtual int64_t drawn_pixels() const { return 0; }

  // Scratch for a tile of so many pixels, beside the values; -1 where it is too large.
  virtual int64_t scratch_bytes(int64_t) const { return 0; }

  virtual void run(const Tile&) const = 0;

  int node = -1;
  int part = 0;                 // which of the node's outputs it writes
  int inputs[kMaxInputs] = {};  // values; -1: absent
  int input_count = 0;
  int output = -1;
  int group = 0;
  int64_t unit = 1;  // pixels of its output in a unit of the group
  int64_t scratch_offset = 0;
  const Operator* source = nullptr;  // makes its input on demand
  int64_t made_at_once = 0;          // pixels, of one that is such a source
  Operator* next_of_chain = nullptr;
  int step = 0;  // the first operator of its chain, or itself: when it runs
};

// Whether a node is one of LCE's operators.
bool is_lce_operator(const abi::Registration& registration);

// A new operator for a node whose first input is of this type; null where there is none of its kind, or no memory.
Operator* create_operator(const abi::Registration& registration, abi::Type type);

// The type of a node's first input.
abi::Type first_type(const abi::Context& context, const abi::Node& node);

Operator* create_quantize();
Operator* create_dequantize();
Operator* create_bconv2d();
Operator* create_bmaxpool2d();
Operator* create_elementwise(int32_t code);
Operator* create_rearrange(int32_t code);
Operator* create_concatenation(int32_t code);
Operator* create_float_pool2d(int32_t code);
Operator* create_conv2d(int32_t code);
Operator* create_float_fully_connected(int32_t code);
Operator* create_gate(int32_t code);
Operator* create_mean(int32_t code);
Operator* create_to_integers(int32_t code);
Operator* create_from_integers(int32_t code);
// Of 8-bit integers:
Operator* create_byte_pairs(int32_t code);
Operator* create_integer_conv2d(int32_t code);
Operator* create_integer_depthwise_conv2d(int32_t code);
Operator* create_integer_fully_connected(int32_t code);
Operator* create_integer_pool2d(int32_t code);
Operator* create_rescale(int32_t code);

// How many words hold the bits of so many channels.
constexpr int words_of(int channels) { return channels / 32 + (channels % 32 != 0); }

}  // namespace bnncc
