// Several processes that train together: torch's c10d, as much of it as data-parallel training needs. Gloo for tensors on the CPU, NCCL for
// those on GPUs; which of the two this build has is CMake's matter.
#include "addon.h"

#if defined(ANCHOR_GLOO) || defined(ANCHOR_NCCL)
#define ANCHOR_GROUPS
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/version.h>
#endif
#ifdef ANCHOR_GLOO
#define USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#endif
#ifdef ANCHOR_NCCL
#define USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include <chrono>
#include <cstdlib>
#include <map>

namespace anchor {
namespace {

#ifdef ANCHOR_GROUPS
// What both kinds of group are: since 2.0 a process group holds backends, before it was one.
#if TORCH_VERSION_MAJOR >= 2
using Group = c10d::Backend;
#else
using Group = c10d::ProcessGroup;
#endif

std::map<int64_t, c10::intrusive_ptr<Group>>& groups() {
  static std::map<int64_t, c10::intrusive_ptr<Group>> all;
  return all;
}
Group& group(napi_env env, napi_value v) {
  const auto found = groups().find(toInt(env, v, "group"));
  if (found == groups().end()) throw Error("no such process group (was it closed?)");
  return *found->second;
}
// Threads and communicators end here where libtorch knows how (2.6); before, with the group.
template <class G>
void shutDown(G& group) {
  if constexpr (requires { group.shutdown(); }) group.shutdown();
}
// Where processes meet: newer libtorch uses libuv unless it is told not to, and Debian's is built without it.
template <class Options>
void withoutLibuv(Options& o) {
  if constexpr (requires { o.useLibUV; }) o.useLibUV = false;
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

#ifdef ANCHOR_GLOO
c10::intrusive_ptr<Group> openGloo(c10::intrusive_ptr<c10d::Store> store, int rank, int size, std::chrono::milliseconds timeout, bool local) {
  auto options = c10d::ProcessGroupGloo::Options::create(timeout);
  // On one machine nothing is listened to from outside.
  options->devices.push_back(local ? c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1") : c10d::ProcessGroupGloo::createDefaultDevice());
  return c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size, options);
}
#endif
#ifdef ANCHOR_NCCL
c10::intrusive_ptr<Group> openNccl(c10::intrusive_ptr<c10d::Store> store, int rank, int size, std::chrono::milliseconds timeout) {
  // Waiting then ends with an exception when another process is lost or late; else a watchdog's thread ends this process. The name before 2.2
  // is the second.
  setenv("TORCH_NCCL_BLOCKING_WAIT", "1", 0);
  setenv("NCCL_BLOCKING_WAIT", "1", 0);
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = timeout;
  return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, options);
}
#endif

// groupBackends() → those of "gloo" and "nccl" that this build can open.
napi_value groupBackends(napi_env env, size_t, napi_value*) {
  std::vector<std::string> names;
#ifdef ANCHOR_GLOO
  names.push_back("gloo");
#endif
#ifdef ANCHOR_NCCL
  names.push_back("nccl");
#endif
  napi_value out;
  check(env, napi_create_array_with_length(env, names.size(), &out));
  for (uint32_t i = 0; i < names.size(); ++i) {
    napi_value name;
    check(env, napi_create_string_utf8(env, names[i].data(), names[i].size(), &name));
    check(env, napi_set_element(env, out, i, name));
  }
  return out;
}

// openGroup(backend, host, port, rank, size, seconds to come, seconds to wait) → a number that stands for the group. Returns when all have come.
napi_value openGroup(napi_env env, size_t argc, napi_value* argv) {
  if (argc < 7) throw Error("openGroup: expected backend, host, port, rank, size, arrival, patience");
  const auto backend = toText(env, argv[0], "backend");
#ifdef ANCHOR_GROUPS
  const auto host = toText(env, argv[1], "host");
  const auto rank = static_cast<int>(toInt(env, argv[3], "rank"));
  const auto size = static_cast<int>(toInt(env, argv[4], "size"));
  const std::chrono::milliseconds arrival(toInt(env, argv[5], "arrival") * 1000);
  const std::chrono::milliseconds patience(toInt(env, argv[6], "patience") * 1000);
  const auto open = [&](auto make) {
    c10d::TCPStoreOptions o;
    o.port = static_cast<uint16_t>(toInt(env, argv[2], "port"));
    o.isServer = rank == 0;
    o.numWorkers = static_cast<size_t>(size);
    o.timeout = arrival;
    withoutLibuv(o);
    auto store = c10::make_intrusive<c10d::TCPStore>(host, o);
    static int64_t next = 1;
    groups()[next] = make(store);
    return number(env, static_cast<double>(next++));
  };
  (void)patience;
#ifdef ANCHOR_GLOO
  if (backend == "gloo") return open([&](auto store) { return openGloo(store, rank, size, patience, host == "127.0.0.1"); });
#endif
#ifdef ANCHOR_NCCL
  if (backend == "nccl") return open([&](auto store) { return openNccl(store, rank, size, patience); });
#endif
#endif
  throw Error("this engine was built without c10d's " + backend);
}

// allReduce(group, tensors): each becomes the sum of all processes' own, in place.
napi_value allReduce(napi_env env, size_t argc, napi_value* argv) {
  if (argc < 2) throw Error("allReduce: expected a group and tensors");
#ifdef ANCHOR_GROUPS
  auto all = tensorsIn(env, argv[1]);
  if (all.empty()) return undefined(env);
  auto& g = group(env, argv[0]);
  if (all[0].is_cpu()) {
    g.allreduce_coalesced(all)->wait();
  } else {
    // Before 2.0 NCCL's coalesced sum was one of tensors on several GPUs. All are on their way before the first is waited for.
    std::vector<c10::intrusive_ptr<c10d::Work>> works;
    for (auto& t : all) {
      std::vector<at::Tensor> one{t};
      works.push_back(g.allreduce(one));
    }
    for (auto& w : works) w->wait();
  }
#endif
  return undefined(env);
}

// broadcast(group, tensors, root): the others' become root's, in place.
napi_value broadcast(napi_env env, size_t argc, napi_value* argv) {
  if (argc < 3) throw Error("broadcast: expected a group, tensors and a root");
#ifdef ANCHOR_GROUPS
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
#ifdef ANCHOR_GROUPS
  const auto found = groups().find(toInt(env, argv[0], "group"));
  if (found == groups().end()) return undefined(env);
  shutDown(*found->second);
  groups().erase(found);
#endif
  return undefined(env);
}

}  // namespace

void addDistributed(napi_env env, napi_value exports) {
  addFunction(env, exports, "groupBackends", groupBackends);
  addFunction(env, exports, "openGroup", openGroup);
  addFunction(env, exports, "allReduce", allReduce);
  addFunction(env, exports, "broadcast", broadcast);
  addFunction(env, exports, "closeGroup", closeGroup);
}

}  // namespace anchor
