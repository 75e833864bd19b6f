// Which nodes of a graph the delegate takes.
#pragma once

#include "abi.h"
#include "memory.h"

namespace bnncc {

// Collects the nodes that the delegate takes, in the execution plan's order: all of LCE's operators, and those of
// TensorFlow Lite's ADD, PRELU, CONCATENATION and AVERAGE_POOL_2D that hang together with them, so that they run in
// one go over memory (operator.h).  `nodes` gets the layout of an abi::IntArray: nodes[0] is their number.  False after
// a report.
bool claim_nodes(abi::Context* context, bool with_neighbours, Array<int>* nodes);

}  // namespace bnncc
