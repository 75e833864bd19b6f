// A partition: nodes of the graph that the interpreter runs as one, through the delegate.
#pragma once

#include "abi.h"
#include "memory.h"
#include "operator.h"
#include "planner.h"
#include "threads.h"

namespace bnncc {

// What every partition of a delegate shares.
struct Settings {
  const Kernels* kernels = nullptr;
  int threads = 0;  // 0: the interpreter's
  bool fuses = true;
  ThreadPool pool;
};

class Partition {
 public:
  ~Partition();

  // Reads the nodes while the interpreter still lets the delegate see them.  Null where there is no memory; what is
  // wrong with a node is kept for `prepare` to report.
  static Partition* create_from(abi::Context* context, const abi::DelegateParams& parameters, Settings* settings);

  // Checks everything, sets the shapes of the tensors that leave the partition, plans and allocates memory.
  abi::Status prepare(abi::Context* context);

  // Runs the operators; allocates nothing.
  abi::Status invoke(abi::Context* context);

 private:
  // Operators that run tile by tile: operators_[first] to operators_[last].  Tiles are of whole units, of which every
  // operator's output has as many (Operator::unit says how many pixels they are); or of parts, of an operator by
  // itself.
  struct Group {
    int first = 0;
    int last = 0;
    int64_t units = 0;
    int64_t block = 1;    // units that no two tiles share; the first one may be smaller
    int64_t tiles = 0;    // that differ by a block at most, the larger ones first
    int64_t scratch = 0;  // bytes of the largest

    int64_t blocks() const { return ceil_div(units, block); }
    int64_t largest_tile() const { return min(ceil_div(blocks(), tiles) * block, units); }
    int64_t begin(int64_t tile) const {
      const int64_t blocks_before = blocks() / tiles * tile + min(tile, blocks() % tiles);
      return max<int64_t>(units - (blocks() - blocks_before) * block, 0);
    }
  };

  bool read_nodes(abi::Context* context, const abi::DelegateParams& parameters);
  bool read_node(abi::Context* context, int number);
  const char* connect(const abi::Node& node, int index);
  int value_of(int tensor);
  void take_paddings(abi::Context* context);
  void remove_operator(int index);
  void order_operators();
  void move_operator(int from, int to);

  bool read_tensors(abi::Context* context);
  bool prepare_operators(abi::Context* context);
  void advance_poolings();
  void form_groups();
  bool draws_on_last_group(int index);
  bool joins_group(int index, Group* group);
  bool enlarge_units(Group* group, int64_t factor);
  void form_chains();
  void find_homes();
  bool is_read_later(const Value& value) const;
  bool plan_arena();
  bool plan_scratch();
  int64_t filter_bytes(const Group& group) const;
  bool plan_tile(Group* group, int64_t units);
  bool write_shapes(abi::Context* context) const;
  bool find_data(abi::Context* context);
  static void run_tile(const void* job, int64_t index, int thread);

  Settings* settings_ = nullptr;
  Array<Operator*> operators_;
  int operator_count_ = 0;
  Array<Value> values_;
  int value_count_ = 0;
  Array<int> value_of_tensor_;  // by tensor, plus 1; 0: none yet
  Array<Group> groups_;
  int group_count_ = 0;
  Array<Block> blocks_;
  Array<char> arena_;
  Array<char> scratch_;
  int64_t scratch_bytes_ = 0;  // of one thread
  int threads_ = 1;
  int64_t cache_bytes_ = 0;  // that a thread has

  const char* problem_ = nullptr;  // of a node, found when it was read
  const Operator* problem_operator_ = nullptr;
};

}  // namespace bnncc
