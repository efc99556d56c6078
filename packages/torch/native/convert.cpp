// JS values to libtorch's IValues by the type an operator's schema names, and back.
#include "addon.h"

#include <ATen/core/List.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/jit_type.h>

#include <cmath>

namespace anchor {
namespace {

constexpr double kMaxSafe = 9007199254740991.0;

const char* typeName(napi_env env, napi_value v) {
  napi_valuetype t;
  check(env, napi_typeof(env, v, &t));
  static const char* names[] = {"undefined", "null", "a boolean", "a number", "a string", "a symbol", "an object", "a function", "an external", "a bigint"};
  return names[t];
}

napi_valuetype kind(napi_env env, napi_value v) {
  napi_valuetype t;
  check(env, napi_typeof(env, v, &t));
  return t;
}

bool isArray(napi_env env, napi_value v) {
  bool yes = false;
  check(env, napi_is_array(env, v, &yes));
  return yes;
}

template <class F>
void forEach(napi_env env, napi_value v, const std::string& what, F&& f) {
  if (!isArray(env, v)) throw Error(what + ": expected an array, got " + typeName(env, v));
  uint32_t n = 0;
  check(env, napi_get_array_length(env, v, &n));
  for (uint32_t i = 0; i < n; ++i) {
    napi_value e;
    check(env, napi_get_element(env, v, i, &e));
    f(e);
  }
}

c10::Scalar toScalar(napi_env env, napi_value v, const std::string& what) {
  switch (kind(env, v)) {
    case napi_boolean: return c10::Scalar(toBool(env, v, what));
    case napi_bigint: {
      int64_t out;
      bool lossless;
      check(env, napi_get_value_bigint_int64(env, v, &out, &lossless));
      if (!lossless) throw Error(what + ": the bigint does not fit 64 bits");
      return c10::Scalar(out);
    }
    case napi_number: {
      const double d = toNumber(env, v, what.c_str());
      if (d == std::floor(d) && std::abs(d) <= kMaxSafe && !(d == 0 && std::signbit(d))) return c10::Scalar(static_cast<int64_t>(d));
      return c10::Scalar(d);
    }
    default: throw Error(what + ": expected a number, got " + typeName(env, v));
  }
}

const at::Tensor& toTensor(napi_env env, napi_value v, const std::string& what) {
  if (kind(env, v) != napi_number) throw Error(what + ": expected a tensor, got " + typeName(env, v));
  return tensors().get(toNumber(env, v, what.c_str()));
}

c10::IValue toList(napi_env env, napi_value v, const c10::TypePtr& element, const std::string& what, c10::optional<int32_t> size) {
  const bool single = kind(env, v) == napi_number && size.has_value();  // `int[2] stride`: one number stands for all
  switch (element->kind()) {
    case c10::TypeKind::IntType:
    case c10::TypeKind::SymIntType:
      return single ? c10::IValue(std::vector<int64_t>(*size, toInt(env, v, what))) : c10::IValue(toInts(env, v, what));
    case c10::TypeKind::FloatType: {
      std::vector<double> out;
      forEach(env, v, what, [&](napi_value e) { out.push_back(toNumber(env, e, what.c_str())); });
      return c10::IValue(std::move(out));
    }
    case c10::TypeKind::BoolType: {
      c10::List<bool> out;
      forEach(env, v, what, [&](napi_value e) { out.push_back(toBool(env, e, what)); });
      return c10::IValue(std::move(out));
    }
    default: {
      c10::impl::GenericList out(element);
      forEach(env, v, what, [&](napi_value e) { out.push_back(toIValue(env, e, element, what, c10::nullopt)); });
      return c10::IValue(std::move(out));
    }
  }
}

}  // namespace

double toNumber(napi_env env, napi_value v, const char* what) {
  double out;
  if (kind(env, v) != napi_number) throw Error(std::string(what) + ": expected a number, got " + typeName(env, v));
  check(env, napi_get_value_double(env, v, &out));
  return out;
}

int64_t toInt(napi_env env, napi_value v, const std::string& what) {
  const double d = toNumber(env, v, what.c_str());
  if (!(d == std::floor(d) && std::abs(d) <= kMaxSafe)) throw Error(what + ": expected a whole number, got " + std::to_string(d));
  return static_cast<int64_t>(d);
}

bool toBool(napi_env env, napi_value v, const std::string& what) {
  if (kind(env, v) != napi_boolean) throw Error(what + ": expected true or false, got " + typeName(env, v));
  bool out;
  check(env, napi_get_value_bool(env, v, &out));
  return out;
}

std::string toText(napi_env env, napi_value v, const std::string& what) {
  if (kind(env, v) != napi_string) throw Error(what + ": expected a string, got " + typeName(env, v));
  size_t n = 0;
  check(env, napi_get_value_string_utf8(env, v, nullptr, 0, &n));
  std::string out(n, '\0');
  check(env, napi_get_value_string_utf8(env, v, out.data(), n + 1, &n));
  return out;
}

std::vector<int64_t> toInts(napi_env env, napi_value v, const std::string& what) {
  std::vector<int64_t> out;
  forEach(env, v, what, [&](napi_value e) { out.push_back(toInt(env, e, what)); });
  return out;
}

napi_value number(napi_env env, double v) {
  napi_value out;
  check(env, napi_create_double(env, v, &out));
  return out;
}

napi_value text(napi_env env, const std::string& v) {
  napi_value out;
  check(env, napi_create_string_utf8(env, v.data(), v.size(), &out));
  return out;
}

napi_value undefined(napi_env env) {
  napi_value out;
  check(env, napi_get_undefined(env, &out));
  return out;
}

bool isNothing(napi_env env, napi_value v) {
  const auto t = kind(env, v);
  return t == napi_undefined || t == napi_null;
}

c10::IValue toIValue(napi_env env, napi_value v, const c10::TypePtr& type, const std::string& what, c10::optional<int32_t> listSize) {
  switch (type->kind()) {
    case c10::TypeKind::TensorType: return c10::IValue(toTensor(env, v, what));
    case c10::TypeKind::NumberType: return c10::IValue(toScalar(env, v, what));
    case c10::TypeKind::IntType:
    case c10::TypeKind::SymIntType:
    case c10::TypeKind::ScalarTypeType:
    case c10::TypeKind::LayoutType:
    case c10::TypeKind::MemoryFormatType: return c10::IValue(toInt(env, v, what));
    case c10::TypeKind::FloatType: return c10::IValue(toNumber(env, v, what.c_str()));
    case c10::TypeKind::BoolType: return c10::IValue(toBool(env, v, what));
    case c10::TypeKind::StringType: return c10::IValue(toText(env, v, what));
    case c10::TypeKind::DeviceObjType: return c10::IValue(c10::Device(toText(env, v, what)));
    case c10::TypeKind::GeneratorType: return c10::IValue(generators().get(toNumber(env, v, what.c_str())));
    case c10::TypeKind::OptionalType:
      if (isNothing(env, v)) return c10::IValue();
      return toIValue(env, v, type->castRaw<c10::OptionalType>()->getElementType(), what, listSize);
    case c10::TypeKind::ListType: return toList(env, v, type->castRaw<c10::ListType>()->getElementType(), what, listSize);
    default: throw Error(what + ": arguments of type " + type->str() + " are not supported");
  }
}

napi_value fromIValue(napi_env env, const c10::IValue& v) {
  napi_value out;
  if (v.isTensor()) {
    const auto& t = v.toTensor();
    if (!t.defined()) {
      check(env, napi_get_null(env, &out));
      return out;
    }
    return number(env, tensors().add(t));
  }
  if (v.isNone()) {
    check(env, napi_get_null(env, &out));
    return out;
  }
  if (v.isBool()) {
    check(env, napi_get_boolean(env, v.toBool(), &out));
    return out;
  }
  if (v.isInt()) return number(env, static_cast<double>(v.toInt()));
  if (v.isDouble()) return number(env, v.toDouble());
  if (v.isString()) return text(env, v.toStringRef());
  const auto array = [&](auto&& items) {
    check(env, napi_create_array_with_length(env, items.size(), &out));
    uint32_t i = 0;
    for (const c10::IValue& item : items) check(env, napi_set_element(env, out, i++, fromIValue(env, item)));
    return out;
  };
  if (v.isList()) return array(v.toListRef());
  if (v.isTuple()) return array(v.toTupleRef().elements());
  throw Error("results of type " + v.tagKind() + " are not supported");
}

// For error messages: `float[2, 3]` for a tensor, the value for a short list or number.
std::string describe(napi_env env, napi_value v, const c10::TypePtr& type) {
  try {
    if (isNothing(env, v)) return "none";
    switch (type->kind()) {
      case c10::TypeKind::OptionalType: return describe(env, v, type->castRaw<c10::OptionalType>()->getElementType());
      case c10::TypeKind::TensorType: {
        const auto& t = toTensor(env, v, "");
        std::string out = std::string(c10::toString(t.scalar_type())) + "[";
        for (int64_t i = 0; i < t.dim(); ++i) out += (i ? ", " : "") + std::to_string(t.size(i));
        return out + "]";
      }
      case c10::TypeKind::ListType: {
        const auto& element = type->castRaw<c10::ListType>()->getElementType();
        std::string out = "[";
        int n = 0;
        if (!isArray(env, v)) return describe(env, v, element);
        forEach(env, v, "", [&](napi_value e) {
          if (n < 6) out += (n ? ", " : "") + describe(env, e, element);
          if (n++ == 6) out += ", …";
        });
        return out + "]";
      }
      default: {
        napi_value s;
        check(env, napi_coerce_to_string(env, v, &s));
        return toText(env, s, "").substr(0, 40);
      }
    }
  } catch (...) {
    return "?";
  }
}

}  // namespace anchor
