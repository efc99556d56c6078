// The one door: find an operator in libtorch's dispatcher by name, convert arguments by its schema, call it, convert back.
#include "addon.h"

#include <ATen/core/function_schema.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/GradMode.h>

#include <sstream>
#include <unordered_map>

namespace anchor {
namespace {

struct Operator {
  c10::OperatorHandle handle;
  std::vector<std::string> argumentNames;  // "add(other)": made once, wanted by every conversion's error text
};

std::vector<Operator>& operators() {
  static thread_local std::vector<Operator> all;
  return all;
}

Operator& operatorAt(napi_env env, napi_value v) {
  const auto at = toInt(env, v, "operator");
  if (at < 0 || static_cast<size_t>(at) >= operators().size()) throw Error("no such operator: " + std::to_string(at));
  return operators()[at];
}

// findOp(name, overload) → index for `call`, or −1 when this libtorch has no such operator.
napi_value findOp(napi_env env, size_t argc, napi_value* argv) {
  if (argc < 2) throw Error("findOp: expected a name and an overload");
  const auto name = toText(env, argv[0], "name"), overload = toText(env, argv[1], "overload");
  auto found = c10::Dispatcher::singleton().findSchema({name, overload});
  if (!found.has_value()) return number(env, -1);
  Operator op{*found, {}};
  for (const auto& a : found->schema().arguments()) op.argumentNames.push_back(name + "(" + a.name() + ")");
  operators().push_back(std::move(op));
  return number(env, static_cast<double>(operators().size() - 1));
}

napi_value schema(napi_env env, size_t argc, napi_value* argv) {
  if (argc < 1) throw Error("schema: expected an operator");
  std::ostringstream out;
  out << operatorAt(env, argv[0]).handle.schema();
  return text(env, out.str());
}

// call(operator, discard, ...arguments): `discard` true returns undefined (in-place operators need no new handle).
napi_value call(napi_env env, size_t argc, napi_value* argv) {
  if (argc < 2) throw Error("call: expected an operator");
  Operator& op = operatorAt(env, argv[0]);
  const bool discard = toBool(env, argv[1], "discard");
  const auto& schema = op.handle.schema();
  const auto& wanted = schema.arguments();
  const size_t given = argc - 2;
  if (given > wanted.size()) throw Error(schema.name() + ": " + std::to_string(given) + " arguments given, it takes " + std::to_string(wanted.size()));
  try {
    torch::jit::Stack stack;
    stack.reserve(wanted.size());
    for (size_t i = 0; i < wanted.size(); ++i) {
      napi_valuetype type = napi_undefined;
      if (i < given) check(env, napi_typeof(env, argv[i + 2], &type));
      if (type == napi_undefined) {
        if (wanted[i].default_value()) stack.push_back(*wanted[i].default_value());
        else if (wanted[i].type()->kind() == c10::TypeKind::OptionalType) stack.emplace_back();
        else throw Error(op.argumentNames[i] + ": missing");
      } else {
        stack.push_back(toIValue(env, argv[i + 2], wanted[i].type(), op.argumentNames[i], wanted[i].N()));
      }
    }
    op.handle.callBoxed(stack);
    if (discard || stack.empty()) return undefined(env);
    if (stack.size() == 1) return fromIValue(env, stack[0]);
    napi_value out;
    check(env, napi_create_array_with_length(env, stack.size(), &out));
    for (uint32_t i = 0; i < stack.size(); ++i) check(env, napi_set_element(env, out, i, fromIValue(env, stack[i])));
    return out;
  } catch (const std::exception& e) {
    std::string message = schema.name() + "(";
    for (size_t i = 0; i < given; ++i) message += (i ? ", " : "") + wanted[i].name() + "=" + describe(env, argv[i + 2], wanted[i].type());
    message += "): " + messageOf(e);
    // libtorch adds the place in its own source to some messages; it tells a caller nothing.
    const auto tail = message.find("\nException raised from");
    throw Error(tail == std::string::npos ? message : message.substr(0, tail));
  }
}

napi_value gradEnabled(napi_env env, size_t argc, napi_value* argv) {
  const bool before = c10::GradMode::is_enabled();
  if (argc > 0 && !isNothing(env, argv[0])) c10::GradMode::set_enabled(toBool(env, argv[0], "enabled"));
  napi_value out;
  check(env, napi_get_boolean(env, before, &out));
  return out;
}

}  // namespace

void addCall(napi_env env, napi_value exports) {
  addFunction(env, exports, "findOp", findOp);
  addFunction(env, exports, "schema", schema);
  addFunction(env, exports, "call", call);
  addFunction(env, exports, "gradEnabled", gradEnabled);
}

}  // namespace anchor
