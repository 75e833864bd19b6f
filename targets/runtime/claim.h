// Which nodes of a graph the delegate takes.
#pragma once

#include "abi.h"
#include "kernels/kernels.h"
#include "memory.h"

namespace bnncc {

// Collects the nodes that the delegate takes, in the execution plan's order: all of LCE's operators, and those of
// TensorFlow Lite's that it knows (operator.cc) and that hang together with them, so that they run in one go over
// memory (operator.h).  Operators of 8-bit integers it takes wherever they are: interpreters' kernels round otherwise,
// each in its way (fixed_point.h), and a file is to yield the same everywhere.  `nodes` gets the layout of an
// abi::IntArray: nodes[0] is their number.  False after a report.
bool claim_nodes(abi::Context* context, const Kernels* kernels, bool with_neighbours, Array<int>* nodes);

}  // namespace bnncc
