// Entry point of the addon: what every exported function is wrapped in, memory settings, library facts.
#include "addon.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>
#include <torch/version.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <unistd.h>

namespace anchor {

std::string messageOf(const std::exception& e) {
  if (const auto* torch = dynamic_cast<const c10::Error*>(&e)) return torch->what_without_backtrace();
  return e.what();
}

namespace {

constexpr size_t kMaxArguments = 24;

struct Function {
  Body body;
};

napi_value invoke(napi_env env, napi_callback_info info) {
  size_t argc = kMaxArguments;
  napi_value argv[kMaxArguments];
  void* data = nullptr;
  std::string message;
  try {
    check(env, napi_get_cb_info(env, info, &argc, argv, nullptr, &data));
    if (argc > kMaxArguments) throw Error("too many arguments");
    return reinterpret_cast<Body>(data)(env, argc, argv);
  } catch (const Pending&) {
    return nullptr;
  } catch (const std::exception& e) {
    message = messageOf(e);
  } catch (...) {
    message = "unknown C++ exception";
  }
  napi_throw_error(env, "TORCH", message.c_str());
  return nullptr;
}

// Hands requests to libtorch's own CPU allocator, but refuses one that exceeds the machine's memory: the kernel would
// promise it and end the process when it is touched.
struct GuardedAllocator final : c10::Allocator {
  c10::Allocator* inner;
  size_t limit;
  explicit GuardedAllocator(c10::Allocator* a) : inner(a) {
    limit = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGE_SIZE));
  }
  void guard(size_t n) const {
    if (n > limit)
      throw Error("out of memory: one tensor of " + std::to_string(n >> 20) + " MiB is more than this machine's " + std::to_string(limit >> 20) + " MiB");
  }
#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 3)
  c10::DataPtr allocate(size_t n) override {
    guard(n);
    return inner->allocate(n);
  }
  void copy_data(void* dest, const void* src, std::size_t count) const override { inner->copy_data(dest, src, count); }
#else
  c10::DataPtr allocate(size_t n) const override {
    guard(n);
    return inner->allocate(n);
  }
#endif
  c10::DeleterFnPtr raw_deleter() const override { return inner->raw_deleter(); }
};

napi_value info(napi_env env, size_t, napi_value*) {
  napi_value out;
  check(env, napi_create_object(env, &out));
  check(env, napi_set_named_property(env, out, "version", text(env, TORCH_VERSION)));
  check(env, napi_set_named_property(env, out, "threads", number(env, at::get_num_threads())));
  napi_value cuda;
  check(env, napi_get_boolean(env, at::globalContext().hasCUDA(), &cuda));
  check(env, napi_set_named_property(env, out, "cuda", cuda));
  return out;
}

napi_value setThreads(napi_env env, size_t, napi_value* argv) {
  const auto n = toInt(env, argv[0], "threads");
  if (n < 1 || n > 1024) throw Error("threads: expected 1 to 1024, got " + std::to_string(n));
  at::set_num_threads(static_cast<int>(n));
  return undefined(env);
}

}  // namespace

void addFunction(napi_env env, napi_value exports, const char* name, Body body) {
  napi_value fn;
  check(env, napi_create_function(env, name, NAPI_AUTO_LENGTH, invoke, reinterpret_cast<void*>(body), &fn));
  check(env, napi_set_named_property(env, exports, name, fn));
}

}  // namespace anchor

NAPI_MODULE_INIT() {
  using namespace anchor;
  static bool once = [] {
#ifdef __GLIBC__
    // Activations are large blocks that come and go each step. glibc's default hands each back to the kernel at once, and
    // faulting them in again can cost more than the arithmetic: keep what was freed.
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 0x7fffffff);
    mallopt(M_TOP_PAD, 64 << 20);
#endif
    static GuardedAllocator guarded(c10::GetCPUAllocator());
    c10::SetCPUAllocator(&guarded, 100);
    return true;
  }();
  (void)once;
  try {
    addFunction(env, exports, "info", info);
    addFunction(env, exports, "setThreads", setThreads);
    addCall(env, exports);
    addTensors(env, exports);
    addDevice(env, exports);
    addDistributed(env, exports);
  } catch (const std::exception& e) {
    napi_throw_error(env, "TORCH", e.what());
  } catch (const Pending&) {
  }
  return exports;
}
