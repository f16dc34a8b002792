#include "kernels/cpu/onednn.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "kernels/cpu/check.h"

namespace tanren::kernels::cpu {
namespace {

// oneDNN reports by exceptions, and no exception leaves this file: a product that cannot be built on this
// processor is a broken invariant, since every caller's shapes are checked before.
template <class Body>
auto OrAbort(const char* what, const Body& body) {
  try {
    return body();
  } catch (const dnnl::error& error) {
    std::fprintf(stderr, "oneDNN cannot %s: %s (status %d)\n", what, error.what(),
                 static_cast<int>(error.status));
    std::abort();
  }
}

dnnl::matmul::primitive_desc DescribeProduct(const ProductSpec& spec) {
  dnnl::primitive_attr attributes;
  if (spec.accumulate) {
    dnnl::post_ops post;
    post.append_sum(1.0f);
    attributes.set_post_ops(post);
  }
  if (spec.open_k) {
    constexpr int64_t kOpen = DNNL_RUNTIME_DIM_VAL;
    const bool transposed = spec.left.data.format_desc.blocking.strides[0] == 1;
    const dnnl::memory::dims strides =
        transposed ? dnnl::memory::dims{1, kOpen} : dnnl::memory::dims{kOpen, 1};
    const dnnl::memory::desc left({spec.left.dims()[0], kOpen}, spec.left.data_type(), strides);
    const dnnl::memory::desc right({kOpen, spec.right.dims()[1]}, spec.right.data_type(), {kOpen, 1});
    return {dnnl::matmul::desc(left, right, spec.out), attributes, OneDnnEngine()};
  }
  if (!spec.bias) return {dnnl::matmul::desc(spec.left, spec.right, spec.out), attributes, OneDnnEngine()};
  const int64_t n = spec.out.dims()[1];
  const auto bias = MatrixDesc(1, n, spec.bias_dtype, n, 1);
  return {dnnl::matmul::desc(spec.left, spec.right, bias, spec.out), attributes, OneDnnEngine()};
}

}  // namespace

bool HasNativeBf16Products() {
  static const bool native = [] {
    switch (dnnl::get_effective_cpu_isa()) {
      case dnnl::cpu_isa::avx512_core_bf16:
      case dnnl::cpu_isa::avx512_core_amx:
        return true;
      default:
        return false;
    }
  }();
  return native;
}

const dnnl::engine& OneDnnEngine() {
  static const dnnl::engine engine =
      OrAbort("make a CPU engine", [] { return dnnl::engine(dnnl::engine::kind::cpu, 0); });
  return engine;
}

dnnl::stream& OneDnnStream() {
  thread_local dnnl::stream stream = OrAbort("make a stream", [] { return dnnl::stream(OneDnnEngine()); });
  return stream;
}

dnnl::memory::data_type OneDnnType(DType dtype) {
  TANREN_KERNEL_CHECK(dtype == DType::kF32 || dtype == DType::kBF16);
  return dtype == DType::kF32 ? dnnl::memory::data_type::f32 : dnnl::memory::data_type::bf16;
}

dnnl::memory::desc MatrixDesc(int64_t rows, int64_t columns, DType dtype, int64_t row_stride,
                              int64_t column_stride) {
  return OrAbort("describe a matrix", [&] {
    return dnnl::memory::desc({rows, columns}, OneDnnType(dtype),
                              dnnl::memory::dims{row_stride, column_stride});
  });
}

void Reorder(const dnnl::memory& from, const dnnl::memory& to) {
  OrAbort("reorder a weight", [&] {
    dnnl::memory source = from;
    dnnl::memory target = to;
    dnnl::reorder(source, target).execute(OneDnnStream(), source, target);
    OneDnnStream().wait();
  });
}

dnnl::memory::desc ChooseRightLayout(const ProductSpec& spec) {
  return OrAbort("choose a weight layout", [&] { return DescribeProduct(spec).weights_desc(); });
}

ProductCache::Product* ProductCache::Find(const Key& key) {
  for (Product& product : products_) {
    if (product.key == key) {
      product.last_use = ++clock_;
      return &product;
    }
  }
  return nullptr;
}

ProductCache::Product* ProductCache::Insert(const Key& key, const ProductSpec& spec) {
  if (products_.size() >= kMaxProducts) {
    products_.erase(
        std::min_element(products_.begin(), products_.end(),
                         [](const Product& a, const Product& b) { return a.last_use < b.last_use; }));
  }
  return OrAbort("compile a matrix product", [&] {
    const auto description = DescribeProduct(spec);
    Product product;
    product.key = key;
    product.primitive = dnnl::matmul(description);
    const auto view = [](const dnnl::memory::desc& desc) {
      return dnnl::memory(desc, OneDnnEngine(), DNNL_MEMORY_NONE);
    };
    product.left = view(spec.left);
    product.right = view(spec.right);
    product.out = view(spec.out);
    if (spec.bias) product.bias = view(description.bias_desc());
    product.last_use = ++clock_;
    products_.push_back(std::move(product));
    return &products_.back();
  });
}

void ProductCache::Execute(Product& product, const Operands& operands) {
  OrAbort("run a matrix product", [&] {
    // A new address is set only where it changed: for a padded layout oneDNN rewrites the padding each time.
    const auto point = [](dnnl::memory& memory, const void* address) {
      void* data = const_cast<void*>(address);
      if (memory.get_data_handle() != data) memory.set_data_handle(data);
    };
    point(product.left, operands.left);
    point(product.right, operands.right);
    point(product.out, operands.out);
    // The C interface takes a plain array where the C++ one builds a map for each call.
    dnnl_exec_arg_t arguments[4] = {{DNNL_ARG_SRC, product.left.get()},
                                    {DNNL_ARG_WEIGHTS, product.right.get()},
                                    {DNNL_ARG_DST, product.out.get()},
                                    {DNNL_ARG_BIAS, nullptr}};
    int count = 3;
    if (product.bias) {
      point(product.bias, operands.bias);
      arguments[count++].memory = product.bias.get();
    }
    dnnl::stream& stream = OneDnnStream();
    dnnl::error::wrap_c_api(dnnl_primitive_execute(product.primitive.get(), stream.get(), count, arguments),
                            "execution failed");
    stream.wait();
  });
}

}  // namespace tanren::kernels::cpu
