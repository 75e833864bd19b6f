// What float_gemm.h asks of an instruction set that loads the numbers of a row one by one, each to all lanes.
#pragma once

constexpr int kFactors = 1;
template <int kNumber, typename Vector>
Vector add_product_with(Vector sums, Vector w, Vector factors) = delete;
