# SPDX-License-Identifier: Apache-2.0
#
# The dependency provider: what find_package() finds neither in Debian's folders nor in the user's own is downloaded,
# where there is a network. Only our presets name this file (CMAKE_PROJECT_TOP_LEVEL_INCLUDES), so it never runs inside
# somebody else's build. On Debian as root, debian_packages.cmake has left it nothing to do.

include_guard(GLOBAL)
include(FetchContent)

# A library of headers only: unpacked, never configured (its own build would bring tests, options and targets along).
function(lightnet_fetch_headers name target folder)
  FetchContent_Declare(${name} ${ARGN} SOURCE_SUBDIR this-folder-does-not-exist DOWNLOAD_EXTRACT_TIMESTAMP ON)
  FetchContent_MakeAvailable(${name})
  FetchContent_GetProperties(${name} SOURCE_DIR source)
  add_library(${target} INTERFACE IMPORTED GLOBAL)
  target_include_directories(${target} INTERFACE ${source}/${folder})
endfunction()

# A library in C: configured and built by its own build, as a static library without tests, programs or installation.
function(lightnet_fetch_library name)
  set(CMAKE_POLICY_DEFAULT_CMP0077 NEW) # option() of an older project leaves these variables alone
  set(ZLIB_BUILD_EXAMPLES OFF)
  set(PNG_SHARED OFF)
  set(PNG_TESTS OFF)
  set(PNG_TOOLS OFF)
  set(SKIP_INSTALL_ALL ON)
  FetchContent_Declare(${name} ${ARGN} SYSTEM DOWNLOAD_EXTRACT_TIMESTAMP ON)
  FetchContent_MakeAvailable(${name})
endfunction()

function(lightnet_fetch name)
  message(STATUS "lightnet: downloading ${name}")
  if(name STREQUAL "Eigen3")
    lightnet_fetch_headers(
      Eigen3 Eigen3::Eigen ""
      URL https://gitlab.com/libeigen/eigen/-/archive/3.4.0/eigen-3.4.0.tar.gz
      URL_HASH SHA256=8586084f71f9bde545ee7fa6d00288b264a2b7ac3607b974e54d13e7162c1c72)
  elseif(name STREQUAL "nlohmann_json")
    lightnet_fetch_headers(
      nlohmann_json nlohmann_json::nlohmann_json include
      URL https://github.com/nlohmann/json/releases/download/v3.11.2/json.tar.xz
      URL_HASH SHA256=8c4b26bf4b422252e13f332bc5e388ec0ab5c3443d24399acb675e68278d341f)
  elseif(name STREQUAL "doctest")
    lightnet_fetch_headers(
      doctest doctest::doctest ""
      URL https://github.com/doctest/doctest/archive/refs/tags/v2.4.11.tar.gz
      URL_HASH SHA256=632ed2c05a7f53fa961381497bf8069093f0d6628c5f26286161fbd32a560186)
  elseif(name STREQUAL "CLI11")
    lightnet_fetch_headers(
      CLI11 CLI11::CLI11 include
      URL https://github.com/CLIUtils/CLI11/archive/refs/tags/v2.3.2.tar.gz
      URL_HASH SHA256=aac0ab42108131ac5d3344a9db0fdf25c4db652296641955720a4fbe52334e22)
  elseif(name STREQUAL "ZLIB")
    lightnet_fetch_library(
      ZLIB
      URL https://github.com/madler/zlib/releases/download/v1.3.1/zlib-1.3.1.tar.gz
      URL_HASH SHA256=9a93b2b7dfdac77ceba5a558a580e74667dd6fede4585b91eefb60f03b72df23)
    FetchContent_GetProperties(ZLIB SOURCE_DIR source BINARY_DIR binary)
    target_include_directories(zlibstatic SYSTEM INTERFACE ${source} ${binary})
    add_library(ZLIB::ZLIB ALIAS zlibstatic)
    set(ZLIB_INCLUDE_DIRS ${source} ${binary} PARENT_SCOPE)
    set(ZLIB_LIBRARIES zlibstatic PARENT_SCOPE)
  elseif(name STREQUAL "PNG")
    lightnet_fetch_library(
      PNG
      URL https://github.com/pnggroup/libpng/archive/refs/tags/v1.6.50.tar.gz
      URL_HASH SHA256=71158e53cfdf2877bc99bcab33641d78df3f48e6e0daad030afe9cb8c031aa46)
    FetchContent_GetProperties(PNG SOURCE_DIR source BINARY_DIR binary)
    target_include_directories(png_static SYSTEM INTERFACE ${source} ${binary})
    add_library(PNG::PNG ALIAS png_static)
  endif()
endfunction()

# CMake calls this first for every find_package(). Returning without setting <name>_FOUND lets its own search run.
function(lightnet_provide method name)
  if(NOT name MATCHES "^(Eigen3|nlohmann_json|doctest|CLI11|ZLIB|PNG)$")
    return()
  endif()
  get_property(fetched GLOBAL PROPERTY lightnet_fetched_${name})
  if(NOT fetched)
    set(arguments ${ARGN})
    list(REMOVE_ITEM arguments REQUIRED QUIET)
    find_package(${name} ${arguments} QUIET BYPASS_PROVIDER)
    if(${name}_FOUND)
      return()
    endif()
    lightnet_fetch(${name})
    set_property(GLOBAL PROPERTY lightnet_fetched_${name} TRUE)
  endif()
  set(${name}_FOUND TRUE PARENT_SCOPE)
  if(name STREQUAL "ZLIB") # libpng's own build reads these
    set(ZLIB_INCLUDE_DIRS ${ZLIB_INCLUDE_DIRS} PARENT_SCOPE)
    set(ZLIB_LIBRARIES ${ZLIB_LIBRARIES} PARENT_SCOPE)
  endif()
endfunction()
cmake_language(SET_DEPENDENCY_PROVIDER lightnet_provide SUPPORTED_METHODS FIND_PACKAGE)

# --- The images of the demonstration, where the Debian package could not be had
if(LIGHTNET_EXAMPLES AND NOT EXISTS /usr/share/datasets/fashion-mnist)
  block()
    set(folder ${CMAKE_BINARY_DIR}/datasets/fashion-mnist)
    foreach(file IN ITEMS "train-images-idx3-ubyte.gz;8d4fb7e6c68d591d4c3dfef9ec88bf0d"
                          "train-labels-idx1-ubyte.gz;25c81989df183df01b3e8a0aad5dffbe"
                          "t10k-images-idx3-ubyte.gz;bef4ecab320f06d8554ea6380940ec79"
                          "t10k-labels-idx1-ubyte.gz;bb300cfdad3c16e7a12a480ee83cd310")
      list(GET file 0 filename)
      list(GET file 1 md5)
      if(NOT EXISTS ${folder}/${filename})
        message(STATUS "lightnet: downloading Fashion-MNIST, ${filename}")
        file(DOWNLOAD https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/${filename}
             ${folder}/${filename} INACTIVITY_TIMEOUT 30 STATUS status)
        file(MD5 ${folder}/${filename} came) # EXPECTED_MD5 would end the configuration, and all but the data is there
        if(NOT came STREQUAL md5)
          file(REMOVE ${folder}/${filename})
          message(WARNING "lightnet: downloading ${filename} failed (${status}); the demonstration needs --data DIR.")
          break()
        endif()
      endif()
    endforeach()
  endblock()
endif()
