// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/config.hpp>

#include <stdexcept>
#include <string>
#include <string_view>

LIGHTNET_BEGIN_NAMESPACE

/// The base of everything the library throws. A call that throws has written nothing.
class error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;

 protected:
  static std::string sentence(std::string_view operation, std::string_view argument, std::string_view expected,
                              std::string_view came) {
    std::string text{"lightnet: "};
    text.append(operation).append(": ").append(argument).append(": expected ").append(expected);
    return text.append(", got ").append(came);
  }
};

/// Extents or strides of an argument do not fit the operation.
class shape_error : public error {
 public:
  shape_error(std::string_view operation, std::string_view argument, std::string_view expected, std::string_view came)
      : error(sentence(operation, argument, expected, came)) {}
};

/// A number, a label or an option is outside what the operation accepts.
class value_error : public error {
 public:
  value_error(std::string_view operation, std::string_view argument, std::string_view expected, std::string_view came)
      : error(sentence(operation, argument, expected, came)) {}
};

/// A pointer is null, or belongs to another device than the operation.
class device_error : public error {
 public:
  device_error(std::string_view operation, std::string_view argument, std::string_view expected, std::string_view came)
      : error(sentence(operation, argument, expected, came)) {}
};

/// A file cannot be read, cannot be written, or does not hold what it should.
class file_error : public error {
 public:
  file_error(std::string_view path, std::string_view reason)
      : error(std::string{"lightnet: "}.append(path).append(": ").append(reason)) {}
};

LIGHTNET_END_NAMESPACE
