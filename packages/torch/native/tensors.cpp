// Tensors as JS sees them: handles, their facts, their memory, gradients; seeded generators.
#include "addon.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/core/TensorBase.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/tensor.h>

#include <sys/mman.h>
#include <sys/stat.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>

namespace anchor {

// A table for each thread of JS. Never destroyed: at process exit JS may outlive static objects.
Table<at::Tensor>& tensors() {
  static thread_local auto* table = new Table<at::Tensor>("tensor");
  return *table;
}
Table<at::Generator>& generators() {
  static thread_local auto* table = new Table<at::Generator>("generator");
  return *table;
}

namespace {

at::Tensor& tensorOf(napi_env env, size_t argc, napi_value* argv, size_t i = 0) {
  if (argc <= i) throw Error("expected a tensor");
  return tensors().get(toNumber(env, argv[i], "tensor"));
}

napi_value freeTensors(napi_env env, size_t argc, napi_value* argv) {
  if (argc < 1) return undefined(env);
  bool many = false;
  check(env, napi_is_array(env, argv[0], &many));
  if (!many) {
    tensors().remove(toNumber(env, argv[0], "tensor"));
    return undefined(env);
  }
  uint32_t n = 0;
  check(env, napi_get_array_length(env, argv[0], &n));
  for (uint32_t i = 0; i < n; ++i) {
    napi_value e;
    check(env, napi_get_element(env, argv[0], i, &e));
    tensors().remove(toNumber(env, e, "tensor"));
  }
  return undefined(env);
}

napi_value live(napi_env env, size_t, napi_value*) { return number(env, static_cast<double>(tensors().live())); }

// meta(tensor) → [dtype code, device index (−1: CPU), ...shape]
napi_value meta(napi_env env, size_t argc, napi_value* argv) {
  const auto& t = tensorOf(env, argc, argv);
  napi_value out;
  check(env, napi_create_array_with_length(env, 2 + t.dim(), &out));
  check(env, napi_set_element(env, out, 0, number(env, static_cast<int>(t.scalar_type()))));
  check(env, napi_set_element(env, out, 1, number(env, t.is_cpu() ? -1 : t.device().index())));
  for (int64_t i = 0; i < t.dim(); ++i) check(env, napi_set_element(env, out, 2 + i, number(env, static_cast<double>(t.size(i)))));
  return out;
}

napi_value requiresGrad(napi_env env, size_t argc, napi_value* argv) {
  auto& t = tensorOf(env, argc, argv);
  if (argc > 1 && !isNothing(env, argv[1])) t.set_requires_grad(toBool(env, argv[1], "requiresGrad"));
  napi_value out;
  check(env, napi_get_boolean(env, t.requires_grad(), &out));
  return out;
}

napi_value grad(napi_env env, size_t argc, napi_value* argv) {
  auto& t = tensorOf(env, argc, argv);
  // Only leaves keep a gradient; libtorch prints a warning when another is asked.
  if (!t.is_leaf()) return fromIValue(env, c10::IValue());
  const auto& g = t.grad();
  return g.defined() ? number(env, tensors().add(g)) : fromIValue(env, c10::IValue());
}

napi_value setGrad(napi_env env, size_t argc, napi_value* argv) {
  auto& t = tensorOf(env, argc, argv);
  if (argc < 2 || isNothing(env, argv[1])) t.mutable_grad() = at::Tensor();
  else {
    const auto& g = tensorOf(env, argc, argv, 1);
    if (g.sizes() != t.sizes() || g.scalar_type() != t.scalar_type() || g.device() != t.device()) throw Error("gradient: shape, dtype or device differs from the tensor's");
    t.mutable_grad() = g;
  }
  return undefined(env);
}

// create(shape, dtype) → uninitialised CPU tensor
napi_value create(napi_env env, size_t argc, napi_value* argv) {
  if (argc < 2) throw Error("create: expected a shape and a dtype");
  const auto shape = toInts(env, argv[0], "shape");
  for (auto s : shape)
    if (s < 0) throw Error("shape: negative size " + std::to_string(s));
  const auto dtype = static_cast<c10::ScalarType>(toInt(env, argv[1], "dtype"));
  return number(env, tensors().add(at::empty(shape, at::TensorOptions().dtype(dtype))));
}

// mapFile(fd, byte offset, shape, dtype) → tensor over the file's own pages, copied where they are written to
napi_value mapFile(napi_env env, size_t argc, napi_value* argv) {
  if (argc < 4) throw Error("mapFile: expected a file, an offset, a shape and a dtype");
  const auto fd = static_cast<int>(toInt(env, argv[0], "file"));
  const auto from = toInt(env, argv[1], "offset");
  const auto shape = toInts(env, argv[2], "shape");
  const auto dtype = static_cast<c10::ScalarType>(toInt(env, argv[3], "dtype"));
  size_t bytes = c10::elementSize(dtype);
  for (auto s : shape)
    if (s < 0 || __builtin_mul_overflow(bytes, static_cast<size_t>(s), &bytes)) throw Error("shape: impossible size " + std::to_string(s));
  struct stat file;
  if (fstat(fd, &file) != 0) throw Error(std::string("mapFile: ") + std::strerror(errno));
  if (from < 0 || bytes == 0 || from > file.st_size || bytes > static_cast<size_t>(file.st_size - from)) throw Error("mapFile: beyond the end of the file");
  const auto page = static_cast<int64_t>(sysconf(_SC_PAGESIZE));
  const auto lead = static_cast<size_t>(from % page);
  const auto length = bytes + lead;
  void* start = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, from - static_cast<int64_t>(lead));
  if (start == MAP_FAILED) throw Error(std::string("mapFile: ") + std::strerror(errno));
  return number(env, tensors().add(at::from_blob(
      static_cast<char*>(start) + lead, shape, [start, length](void*) { munmap(start, length); }, at::TensorOptions().dtype(dtype))));
}

// memory(tensor) → ArrayBuffer over a contiguous CPU tensor's own bytes. The buffer keeps the storage alive, so a view that
// outlives the handle reads old data, never freed memory.
napi_value memory(napi_env env, size_t argc, napi_value* argv) {
  const auto& t = tensorOf(env, argc, argv);
  if (!t.is_cpu()) throw Error("memory: the tensor is not on the CPU");
  if (!t.is_contiguous()) throw Error("memory: the tensor is not contiguous");
  const size_t bytes = t.nbytes();
  napi_value out;
  if (bytes == 0) {
    void* nothing;
    check(env, napi_create_arraybuffer(env, 0, &nothing, &out));
    return out;
  }
  auto* owner = new at::Tensor(t);
  const auto status = napi_create_external_arraybuffer(
      env, t.data_ptr(), bytes, [](napi_env, void*, void* hint) { delete static_cast<at::Tensor*>(hint); }, owner, &out);
  if (status != napi_ok) delete owner;
  check(env, status);
  return out;
}

// copyOut(tensor, ArrayBuffer, byteOffset): a contiguous CPU tensor's bytes into JS memory
napi_value copyOut(napi_env env, size_t argc, napi_value* argv) {
  const auto& t = tensorOf(env, argc, argv);
  if (argc < 2 || !t.is_cpu() || !t.is_contiguous()) throw Error("copyOut: expected a contiguous CPU tensor and a buffer");
  void* data;
  size_t size;
  check(env, napi_get_arraybuffer_info(env, argv[1], &data, &size));
  if (size < t.nbytes()) throw Error("copyOut: the buffer is too small");
  if (t.nbytes() > 0) std::memcpy(data, t.data_ptr(), t.nbytes());
  return undefined(env);
}

// copyIn(tensor, typed array): JS memory into a contiguous CPU tensor of exactly as many bytes
napi_value copyIn(napi_env env, size_t argc, napi_value* argv) {
  const auto& t = tensorOf(env, argc, argv);
  if (argc < 2 || !t.is_cpu() || !t.is_contiguous()) throw Error("copyIn: expected a contiguous CPU tensor and a typed array");
  bool typed = false;
  check(env, napi_is_typedarray(env, argv[1], &typed));
  if (!typed) throw Error("copyIn: expected a typed array");
  napi_typedarray_type type;
  size_t length, offset;
  void* data;
  napi_value buffer;
  check(env, napi_get_typedarray_info(env, argv[1], &type, &length, &data, &buffer, &offset));
  static const size_t widths[] = {1, 1, 1, 2, 2, 4, 4, 4, 8, 8, 8};
  if (static_cast<size_t>(type) >= 11 || length * widths[type] != t.nbytes())
    throw Error("data: " + std::to_string(static_cast<size_t>(type) < 11 ? length * widths[type] : 0) + " bytes given, the shape and dtype need " + std::to_string(t.nbytes()));
  if (t.nbytes() > 0) std::memcpy(t.data_ptr(), data, t.nbytes());
  return undefined(env);
}

napi_value createGenerator(napi_env env, size_t argc, napi_value* argv) {
  if (argc < 2) throw Error("generator: expected a seed and a device");
  const auto seed = static_cast<uint64_t>(toInt(env, argv[0], "seed"));
  const c10::Device device(toText(env, argv[1], "device"));
  if (device.is_cpu()) return number(env, generators().add(at::detail::createCPUGenerator(seed)));
  // A generator of one's own on a GPU: a clone of the default one, seeded.
  auto g = at::globalContext().defaultGenerator(device).clone();
  g.set_current_seed(seed);
  return number(env, generators().add(g));
}

napi_value freeGenerator(napi_env env, size_t argc, napi_value* argv) {
  if (argc > 0) generators().remove(toNumber(env, argv[0], "generator"));
  return undefined(env);
}

napi_value generatorState(napi_env env, size_t argc, napi_value* argv) {
  if (argc < 1) throw Error("generator: missing");
  auto& g = generators().get(toNumber(env, argv[0], "generator"));
  if (argc > 1 && !isNothing(env, argv[1])) {
    g.set_state(tensorOf(env, argc, argv, 1));
    return undefined(env);
  }
  return number(env, tensors().add(g.get_state()));
}

// What a worker thread leaves when it ends, terminated perhaps, nobody could free any more.
void leave(void*) {
  tensors().clear();
  generators().clear();
}

// The main thread's tensors go with the process, which is quicker.
bool onMainThread() {
#ifdef __linux__
  return syscall(SYS_gettid) == getpid();
#else
  return false;
#endif
}

}  // namespace

void addTensors(napi_env env, napi_value exports) {
  if (!onMainThread()) check(env, napi_add_env_cleanup_hook(env, leave, nullptr));
  addFunction(env, exports, "free", freeTensors);
  addFunction(env, exports, "live", live);
  addFunction(env, exports, "meta", meta);
  addFunction(env, exports, "requiresGrad", requiresGrad);
  addFunction(env, exports, "grad", grad);
  addFunction(env, exports, "setGrad", setGrad);
  addFunction(env, exports, "create", create);
  addFunction(env, exports, "mapFile", mapFile);
  addFunction(env, exports, "memory", memory);
  addFunction(env, exports, "copyOut", copyOut);
  addFunction(env, exports, "copyIn", copyIn);
  addFunction(env, exports, "createGenerator", createGenerator);
  addFunction(env, exports, "freeGenerator", freeGenerator);
  addFunction(env, exports, "generatorState", generatorState);
}

}  // namespace anchor
