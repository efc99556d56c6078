// Several processes that train together: torch's c10d, as much of it as data-parallel training needs.
#include "addon.h"

#ifdef ANCHOR_GLOO
#define USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#endif

#include <chrono>
#include <map>

namespace anchor {
namespace {

#ifdef ANCHOR_GLOO
std::map<int64_t, c10::intrusive_ptr<c10d::ProcessGroupGloo>>& groups() {
  static std::map<int64_t, c10::intrusive_ptr<c10d::ProcessGroupGloo>> all;
  return all;
}
c10d::ProcessGroupGloo& group(napi_env env, napi_value v) {
  const auto found = groups().find(toInt(env, v, "group"));
  if (found == groups().end()) throw Error("no such process group (was it closed?)");
  return *found->second;
}
std::vector<at::Tensor> tensorsIn(napi_env env, napi_value list) {
  uint32_t n = 0;
  check(env, napi_get_array_length(env, list, &n));
  std::vector<at::Tensor> out;
  for (uint32_t i = 0; i < n; ++i) {
    napi_value v;
    check(env, napi_get_element(env, list, i, &v));
    out.push_back(tensors().get(toNumber(env, v, "tensor")));
  }
  return out;
}
#endif

// hasGroups() → whether this build can open any.
napi_value hasGroups(napi_env env, size_t, napi_value*) {
  napi_value out;
#ifdef ANCHOR_GLOO
  check(env, napi_get_boolean(env, true, &out));
#else
  check(env, napi_get_boolean(env, false, &out));
#endif
  return out;
}

// openGroup(host, port, rank, size, timeout in seconds) → a number that stands for the group. Returns when all have come.
napi_value openGroup(napi_env env, size_t argc, napi_value* argv) {
  if (argc < 5) throw Error("openGroup: expected host, port, rank, size, timeout");
#ifdef ANCHOR_GLOO
  const auto rank = static_cast<int>(toInt(env, argv[2], "rank"));
  const auto size = static_cast<int>(toInt(env, argv[3], "size"));
  const std::chrono::milliseconds timeout(toInt(env, argv[4], "timeout") * 1000);
  c10d::TCPStoreOptions o;
  o.port = static_cast<uint16_t>(toInt(env, argv[1], "port"));
  o.isServer = rank == 0;
  o.numWorkers = static_cast<size_t>(size);
  o.timeout = timeout;
  auto store = c10::make_intrusive<c10d::TCPStore>(toText(env, argv[0], "host"), o);
  auto options = c10d::ProcessGroupGloo::Options::create(timeout);
  // On one machine nothing is listened to from outside.
  const bool local = toText(env, argv[0], "host") == "127.0.0.1";
  options->devices.push_back(local ? c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1") : c10d::ProcessGroupGloo::createDefaultDevice());
  static int64_t next = 1;
  groups()[next] = c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size, options);
  return number(env, static_cast<double>(next++));
#else
  throw Error("this engine was built without c10d's Gloo: its headers were missing (Debian: libgloo-dev, then build again with \"npm run setup\")");
#endif
}

// allReduce(group, tensors): each becomes the sum of all processes' own, in place.
napi_value allReduce(napi_env env, size_t argc, napi_value* argv) {
  if (argc < 2) throw Error("allReduce: expected a group and tensors");
#ifdef ANCHOR_GLOO
  auto all = tensorsIn(env, argv[1]);
  if (!all.empty()) group(env, argv[0]).allreduce_coalesced(all)->wait();
#endif
  return undefined(env);
}

// broadcast(group, tensors, root): the others' become root's, in place.
napi_value broadcast(napi_env env, size_t argc, napi_value* argv) {
  if (argc < 3) throw Error("broadcast: expected a group, tensors and a root");
#ifdef ANCHOR_GLOO
  c10d::BroadcastOptions o;
  o.rootRank = static_cast<int>(toInt(env, argv[2], "root"));
  for (auto& t : tensorsIn(env, argv[1])) {
    std::vector<at::Tensor> one{t};
    group(env, argv[0]).broadcast(one, o)->wait();
  }
#endif
  return undefined(env);
}

napi_value closeGroup(napi_env env, size_t argc, napi_value* argv) {
  if (argc < 1) throw Error("closeGroup: expected a group");
#ifdef ANCHOR_GLOO
  groups().erase(toInt(env, argv[0], "group"));
#endif
  return undefined(env);
}

}  // namespace

void addDistributed(napi_env env, napi_value exports) {
  addFunction(env, exports, "hasGroups", hasGroups);
  addFunction(env, exports, "openGroup", openGroup);
  addFunction(env, exports, "allReduce", allReduce);
  addFunction(env, exports, "broadcast", broadcast);
  addFunction(env, exports, "closeGroup", closeGroup);
}

}  // namespace anchor
