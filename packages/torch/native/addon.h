// What the addon's files share: handles, conversion between JS values and libtorch's IValues, and errors.
// A tensor is known to JS by a number (slot and generation of a table), so a stale or invented handle is an error, not a crash.
#pragma once
#include <ATen/core/Tensor.h>
#include <ATen/core/Generator.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <node_api.h>

#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

namespace anchor {

// Thrown for what a caller did wrong; becomes a JS error with this text.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
// A JS exception is already pending.
struct Pending {};

inline void check(napi_env env, napi_status status) {
  if (status == napi_ok) return;
  bool pending = false;
  napi_is_exception_pending(env, &pending);
  if (pending) throw Pending{};
  const napi_extended_error_info* info = nullptr;
  napi_get_last_error_info(env, &info);
  throw Error(info && info->error_message ? info->error_message : "Node-API call failed");
}

// Tensors or generators owned by JS. One table per thread: a handle means nothing in another worker.
template <class T>
class Table {
 public:
  double add(T value) {
    uint32_t at;
    if (free_.empty()) {
      if (slots_.size() >= kMaxSlots) throw Error("too many live handles");
      at = static_cast<uint32_t>(slots_.size());
      slots_.push_back({});
    } else {
      at = free_.back();
      free_.pop_back();
    }
    Slot& slot = slots_[at];
    slot.value = std::move(value);
    slot.used = true;
    ++live_;
    return static_cast<double>(slot.generation) * kMaxSlots + at;
  }
  T& get(double handle) {
    Slot* slot = find(handle);
    if (!slot) throw Error(std::string(handle == 0 ? "no " : "not a live ") + name_ + " handle (disposed, or from another thread)");
    return slot->value;
  }
  void remove(double handle) {
    Slot* slot = find(handle);
    if (!slot) return;
    slot->value = T();
    slot->used = false;
    slot->generation = slot->generation % kMaxGeneration + 1;
    free_.push_back(static_cast<uint32_t>(slot - slots_.data()));
    --live_;
  }
  size_t live() const { return live_; }
  void clear() {
    slots_.clear();
    free_.clear();
    live_ = 0;
  }
  explicit Table(const char* name) : name_(name) {}

 private:
  static constexpr uint32_t kMaxSlots = 1u << 26;
  static constexpr uint32_t kMaxGeneration = (1u << 26) - 1;
  struct Slot {
    T value;
    uint32_t generation = 1;
    bool used = false;
  };
  Slot* find(double handle) {
    if (!(handle >= kMaxSlots && handle < 9007199254740992.0)) return nullptr;
    const auto whole = static_cast<uint64_t>(handle);
    const auto at = whole % kMaxSlots;
    if (at >= slots_.size() || !slots_[at].used || slots_[at].generation != whole / kMaxSlots) return nullptr;
    return &slots_[at];
  }
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  size_t live_ = 0;
  const char* name_;
};

Table<at::Tensor>& tensors();
Table<at::Generator>& generators();

// --- JS values (convert.cpp) ---
double toNumber(napi_env env, napi_value v, const char* what);
int64_t toInt(napi_env env, napi_value v, const std::string& what);
bool toBool(napi_env env, napi_value v, const std::string& what);
std::string toText(napi_env env, napi_value v, const std::string& what);
std::vector<int64_t> toInts(napi_env env, napi_value v, const std::string& what);
napi_value number(napi_env env, double v);
napi_value text(napi_env env, const std::string& v);
napi_value undefined(napi_env env);
bool isNothing(napi_env env, napi_value v);
// A JS value as what the operator's schema asks for, and back.
c10::IValue toIValue(napi_env env, napi_value v, const c10::TypePtr& type, const std::string& what, c10::optional<int32_t> listSize);
napi_value fromIValue(napi_env env, const c10::IValue& v);
std::string describe(napi_env env, napi_value v, const c10::TypePtr& type);

// --- exported functions ---
void addCall(napi_env env, napi_value exports);     // call.cpp
void addTensors(napi_env env, napi_value exports);  // tensors.cpp
void addDevice(napi_env env, napi_value exports);   // device.cpp
void addDistributed(napi_env env, napi_value exports);  // distributed.cpp

using Body = napi_value (*)(napi_env, size_t argc, napi_value* argv);
// Adds `name` to `exports`; no C++ exception leaves the body.
void addFunction(napi_env env, napi_value exports, const char* name, Body body);
std::string messageOf(const std::exception& e);

}  // namespace anchor
