// A message with every field set, for tests and for the first inputs of fuzzers.
#pragma once

#include <cstdint>
#include <string>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

namespace godwit::image {

inline void fill_all(google::protobuf::Message& message);

namespace detail {

inline void fill_field(google::protobuf::Message& m, const google::protobuf::FieldDescriptor* f, std::uint32_t value) {
  using Type = google::protobuf::FieldDescriptor;
  const google::protobuf::Reflection* r = m.GetReflection();
  const bool list = f->is_repeated();
  const auto text = std::to_string(value);
  switch (f->cpp_type()) {
    case Type::CPPTYPE_INT32: list ? r->AddInt32(&m, f, value) : r->SetInt32(&m, f, value); break;
    case Type::CPPTYPE_INT64: list ? r->AddInt64(&m, f, value) : r->SetInt64(&m, f, value); break;
    case Type::CPPTYPE_UINT32: list ? r->AddUInt32(&m, f, value) : r->SetUInt32(&m, f, value); break;
    case Type::CPPTYPE_UINT64: list ? r->AddUInt64(&m, f, value) : r->SetUInt64(&m, f, value); break;
    case Type::CPPTYPE_BOOL: list ? r->AddBool(&m, f, true) : r->SetBool(&m, f, true); break;
    case Type::CPPTYPE_STRING: list ? r->AddString(&m, f, text) : r->SetString(&m, f, text); break;
    case Type::CPPTYPE_ENUM: r->SetEnum(&m, f, f->enum_type()->value(f->enum_type()->value_count() - 1)); break;
    case Type::CPPTYPE_MESSAGE: fill_all(list ? *r->AddMessage(&m, f) : *r->MutableMessage(&m, f)); break;
    case Type::CPPTYPE_FLOAT:
    case Type::CPPTYPE_DOUBLE: break;  // the format has none
  }
}

}  // namespace detail

// Numbers are three times the field number, so that a swapped pair of fields shows.
inline void fill_all(google::protobuf::Message& message) {
  const google::protobuf::Descriptor* type = message.GetDescriptor();
  for (int i = 0; i < type->field_count(); ++i)
    detail::fill_field(message, type->field(i), static_cast<std::uint32_t>(type->field(i)->number()) * 3);
}

template <class M>
M full() {
  M message;
  fill_all(message);
  return message;
}

}  // namespace godwit::image
