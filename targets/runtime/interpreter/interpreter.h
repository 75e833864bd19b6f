// Runs a .tflite file: TensorFlow Lite's own operators by those of builtins/, LCE's by the delegate.
//
// The delegate meets what it meets in TensorFlow Lite: a context with tensors and nodes, from which it takes its own
// and their neighbours.  All memory is planned and allocated when the network is made: maps that do not live at the
// same time share it.  Operators whose inputs are constants run then, once.
#pragma once

#include "../abi.h"
#include "builtin.h"
#include "libm.h"
#include "model.h"

namespace bnncc {

class Interpreter {
 public:
  ~Interpreter();

  // The bytes of the file, and those of `error`, must outlive the interpreter.  Null after a failure, which `error`
  // then names.  most_bytes: of a tensor, or of all memory for maps.
  static Interpreter* create_from(const void* file, size_t size, int threads, char* error, size_t error_size,
                                  int64_t most_bytes = kLargestSize);

  // The network's inputs and outputs; their `data` is there from the beginning and stays where it is.
  int inputs() const { return model_.inputs().size(); }
  int outputs() const { return model_.outputs().size(); }
  const abi::Tensor& input(int index) const { return tensors_[model_.inputs()[index]]; }
  const abi::Tensor& output(int index) const { return tensors_[model_.outputs()[index]]; }

  // False after a failure of the delegate.  Allocates nothing.
  bool invoke();

 private:
  // One operator of the file, or one partition of the delegate's.
  struct Step {
    int op = -1;  // -1: `node` and `registration`
    const BuiltinEntry* entry = nullptr;
    Builtin* builtin = nullptr;
    abi::Node node = {};
    abi::Registration registration = {};
    bool is_done = false;  // its inputs are constants
  };

  // The parsed options of the operators that the delegate takes beside LCE's.
  union Options {
    abi::ArithmeticParams arithmetic;
    abi::LeakyReluParams leaky_relu;
    abi::BlockParams block;
    abi::StridedSliceParams slice;
    abi::ConcatenationParams concatenation;
    abi::ConvParams convolution;
    abi::DepthwiseConvParams depthwise_convolution;
    abi::PoolParams pool;
    abi::FullyConnectedParams fully_connected;
    abi::ReducerParams reducer;
  };

  bool make(const void* file, size_t size, int threads);
  bool make_tensors();
  bool make_scales();
  bool make_nodes();
  static void read_options(const FileOperator& op, Options* options);
  bool check_order();
  abi::IntArray* make_list(const TensorList& list);
  abi::IntArray* make_list(int64_t size);
  bool delegate_nodes();
  bool replace(abi::Registration registration, const abi::IntArray& nodes, abi::Delegate* delegate);
  bool make_partition(const abi::Registration& registration, abi::Delegate* delegate, const int* epochs, int epoch);
  bool prepare_steps();
  bool prepare_builtin(Step* step);
  bool are_constants(const TensorList& tensors) const;
  bool run_once(Step* step);
  bool plan_memory();
  bool fail(const char* format, ...) __attribute__((format(printf, 2, 3)));

  static Interpreter* of(abi::Context* context) { return static_cast<Interpreter*>(context->impl_); }
  static abi::Status get_execution_plan(abi::Context* context, abi::IntArray** plan);
  static abi::Status get_node(abi::Context* context, int index, abi::Node** node, abi::Registration** registration);
  static abi::Status replace_nodes(abi::Context* context, abi::Registration registration, const abi::IntArray* nodes,
                                   abi::Delegate* delegate);
  static abi::Status resize_tensor(abi::Context* context, abi::Tensor* tensor, abi::IntArray* shape);
  static void report_error(abi::Context* context, const char* message, ...);
  static void append(char* text, size_t size, const char* format, va_list arguments);

  char* error_ = nullptr;
  size_t error_size_ = 0;
  int64_t most_bytes_ = 0;
  Model model_;
  abi::Context context_ = {};
  abi::Delegate* delegate_ = nullptr;
  Team team_{nullptr, 1};

  Array<abi::Tensor> tensors_;
  Array<int> shapes_;  // of kMaxRank sizes behind their number, for each tensor
  Array<abi::AffineQuantization> affine_;
  Array<int32_t> scale_words_;  // the lists that these point to
  Array<abi::Node> nodes_;
  Array<abi::Registration> registrations_;
  Array<Options> options_;
  Array<abi::IntArray*> lists_;  // to be freed
  int list_count_ = 0;
  abi::IntArray* plan_ = nullptr;  // of the file's operators, for the delegate

  Array<Step> steps_;
  int step_count_ = 0;
  Array<void*> constants_;  // computed once, to be freed; by tensor
  Array<char> arena_;
};

}  // namespace bnncc
