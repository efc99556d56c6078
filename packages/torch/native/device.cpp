// What concerns devices: how many GPUs there are, their memory, and autocast.
#include "addon.h"

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <torch/version.h>

#define ANCHOR_TORCH_AT_LEAST(major, minor) (TORCH_VERSION_MAJOR > (major) || (TORCH_VERSION_MAJOR == (major) && TORCH_VERSION_MINOR >= (minor)))
#ifdef ANCHOR_DEVICE_ALLOCATOR
#include <c10/core/CachingDeviceAllocator.h>
#endif

namespace anchor {
namespace {

napi_value cudaDevices(napi_env env, size_t, napi_value*) {
  const auto& hooks = at::detail::getCUDAHooks();
  return number(env, hooks.hasCUDA() ? hooks.getNumGPUs() : 0);
}

// cudaMemory(index, reset) → [allocated, peak allocated, reserved, peak reserved] in bytes, or null where this libtorch cannot tell
// without CUDA's own headers. `reset` starts the peaks anew.
napi_value cudaMemory(napi_env env, size_t argc, napi_value* argv) {
  if (argc < 2) throw Error("cudaMemory: expected a device and whether to reset");
  const auto index = static_cast<c10::DeviceIndex>(toInt(env, argv[0], "device"));
  const bool reset = toBool(env, argv[1], "reset");
  napi_value out;
#ifdef ANCHOR_DEVICE_ALLOCATOR
  if (at::detail::getCUDAHooks().hasCUDA()) {
    at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);  // before its first tensor the allocator knows no device
    auto* allocator = at::getDeviceAllocator(c10::DeviceType::CUDA);
    if (reset) allocator->resetPeakStats(index);
    const auto stats = allocator->getDeviceStats(index);
    const auto& allocated = stats.allocated_bytes[0];  // 0: over all pools
    const auto& reserved = stats.reserved_bytes[0];
    const double values[] = {static_cast<double>(allocated.current), static_cast<double>(allocated.peak), static_cast<double>(reserved.current),
                             static_cast<double>(reserved.peak)};
    check(env, napi_create_array_with_length(env, 4, &out));
    for (uint32_t i = 0; i < 4; ++i) check(env, napi_set_element(env, out, i, number(env, values[i])));
    return out;
  }
#endif
  (void)index, (void)reset;
  check(env, napi_get_null(env, &out));
  return out;
}

// allowTf32(convolutions, products) → whether both were allowed before, as [convolutions, products].
napi_value allowTf32(napi_env env, size_t argc, napi_value* argv) {
  if (argc < 2) throw Error("allowTf32: expected whether convolutions and whether products may use it");
  auto& context = at::globalContext();
  const bool before[] = {context.allowTF32CuDNN(), context.allowTF32CuBLAS()};
  context.setAllowTF32CuDNN(toBool(env, argv[0], "convolutions"));
  context.setAllowTF32CuBLAS(toBool(env, argv[1], "products"));
  napi_value out;
  check(env, napi_create_array_with_length(env, 2, &out));
  for (uint32_t i = 0; i < 2; ++i) {
    napi_value value;
    check(env, napi_get_boolean(env, before[i], &value));
    check(env, napi_set_element(env, out, i, value));
  }
  return out;
}

// autocast(kind "cpu" | "cuda", dtype or −1 for off) → the dtype before, −1 when it was off. Leaving the outermost one drops the
// copies of weights that libtorch keeps meanwhile.
napi_value autocast(napi_env env, size_t argc, napi_value* argv) {
  if (argc < 2) throw Error("autocast: expected a kind of device and a dtype");
  const auto kind = toText(env, argv[0], "device");
  if (kind != "cpu" && kind != "cuda") throw Error("autocast: expected cpu or cuda, got " + kind);
  const bool cuda = kind == "cuda";
  const auto wanted = toInt(env, argv[1], "dtype");
  const auto type = static_cast<c10::ScalarType>(wanted);
#if ANCHOR_TORCH_AT_LEAST(2, 4)
  const auto device = cuda ? at::kCUDA : at::kCPU;
  const int64_t before = at::autocast::is_autocast_enabled(device) ? static_cast<int64_t>(at::autocast::get_autocast_dtype(device)) : -1;
  if (wanted >= 0) at::autocast::set_autocast_dtype(device, type);
  at::autocast::set_autocast_enabled(device, wanted >= 0);
#else
  const int64_t before = cuda ? (at::autocast::is_enabled() ? static_cast<int64_t>(at::autocast::get_autocast_gpu_dtype()) : -1)
                              : (at::autocast::is_cpu_enabled() ? static_cast<int64_t>(at::autocast::get_autocast_cpu_dtype()) : -1);
  if (wanted >= 0) cuda ? at::autocast::set_autocast_gpu_dtype(type) : at::autocast::set_autocast_cpu_dtype(type);
  cuda ? at::autocast::set_enabled(wanted >= 0) : at::autocast::set_cpu_enabled(wanted >= 0);
#endif
  if (wanted < 0) at::autocast::clear_cache();
  return number(env, static_cast<double>(before));
}

}  // namespace

void addDevice(napi_env env, napi_value exports) {
  addFunction(env, exports, "cudaDevices", cudaDevices);
  addFunction(env, exports, "cudaMemory", cudaMemory);
  addFunction(env, exports, "allowTf32", allowTf32);
  addFunction(env, exports, "autocast", autocast);
}

}  // namespace anchor
