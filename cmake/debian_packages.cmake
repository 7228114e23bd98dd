# SPDX-License-Identifier: Apache-2.0
#
# Installs the Debian packages that the build needs, so that one command works on a bare machine: all at once, by
# apt-get, for root; anybody else is told the one line to type. Only our presets have it included, before project():
# there CMake looks for make before it reads anything else, and for a compiler soon after.

# out: those of the packages that dpkg does not have. (Asking dpkg is the only safe check: apt-get with empty lists
# takes "g++" for a pattern, does nothing and exits with 0.)
function(lightnet_missing_packages out)
  set(missing "")
  foreach(package IN LISTS ARGN)
    execute_process(
      COMMAND dpkg-query -W -f=\${db:Status-Status} ${package}
      OUTPUT_VARIABLE status
      ERROR_QUIET)
    if(NOT status STREQUAL "installed")
      list(APPEND missing ${package})
    endif()
  endforeach()
  set(${out} ${missing} PARENT_SCOPE)
endfunction()

# out: true where apt-get did what it was told. Its long story is shown only where it failed.
function(lightnet_apt_get out)
  execute_process(
    COMMAND ${CMAKE_COMMAND} -E env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=600 ${ARGN}
    RESULT_VARIABLE result
    OUTPUT_VARIABLE story
    ERROR_VARIABLE story)
  set(good TRUE)
  if(NOT result EQUAL 0)
    set(good FALSE)
    list(JOIN ARGN " " arguments)
    message(NOTICE "${story}\nlightnet: apt-get ${arguments} failed (${result})")
  endif()
  set(${out} ${good} PARENT_SCOPE)
endfunction()

block() # its variables are nobody else's business
  # What this configuration needs, and what it can do without.
  set(needed libeigen3-dev nlohmann-json3-dev)
  set(welcome "")

  find_program(compiler NAMES c++ g++ clang++ NO_CACHE)
  if(NOT compiler AND NOT CMAKE_CXX_COMPILER AND NOT DEFINED ENV{CXX})
    set(no_compiler TRUE)
    list(APPEND needed g++)
  endif()
  if(CMAKE_GENERATOR MATCHES "Makefiles")
    find_program(builder NAMES gmake make NO_CACHE)
    set(builder_package make)
  elseif(CMAKE_GENERATOR MATCHES "Ninja")
    find_program(builder NAMES ninja ninja-build NO_CACHE)
    set(builder_package ninja-build)
  else()
    set(builder "the one of ${CMAKE_GENERATOR}")
  endif()
  if(NOT builder)
    list(APPEND needed ${builder_package})
  endif()
  if(LIGHTNET_TESTS)
    list(APPEND needed doctest-dev librandom123-dev)
    list(APPEND welcome clang clang-format libomp-dev pkgconf) # their tests are reported as skipped without them
    if(LIGHTNET_EXAMPLES)
      list(APPEND welcome gnuplot-nox libsentencepiece-dev) # curves as pictures, pieces of words
    endif()
  endif()
  if(LIGHTNET_EXAMPLES)
    list(APPEND needed libcli11-dev libpng-dev zlib1g-dev dataset-fashion-mnist bible-kjv dict-gcide mricron-data)
  endif()
  if(LIGHTNET_BENCHMARKS)
    list(APPEND needed libbenchmark-dev)
  endif()

  find_program(dpkg_query dpkg-query NO_CACHE)
  find_program(apt_get apt-get NO_CACHE)
  if(dpkg_query AND apt_get)
    lightnet_missing_packages(missing ${needed} ${welcome})
    if(missing)
      list(JOIN missing " " line)
      execute_process(COMMAND id -u OUTPUT_VARIABLE user OUTPUT_STRIP_TRAILING_WHITESPACE)
      if(user STREQUAL "0")
        message(STATUS "lightnet: installing ${line} (this takes a minute)")
        lightnet_apt_get(good update)
        lightnet_apt_get(good install -y --no-install-recommends ${missing})
        if(NOT good AND welcome)
          lightnet_missing_packages(missing ${needed})
          lightnet_apt_get(good install -y --no-install-recommends ${missing})
        endif()
        lightnet_missing_packages(missing ${needed} ${welcome})
        list(JOIN missing " " line)
      endif()
    endif()
    if(missing)
      message(NOTICE "lightnet: these Debian packages are missing. To install them, type\n\n"
                     "  sudo apt-get update && sudo apt-get install ${line}\n\n"
                     "lightnet: going on without them; what is found nowhere else is downloaded.\n")
    endif()
  else()
    list(JOIN needed " " line)
    message(STATUS "lightnet: no apt-get here; what is not found is downloaded (on Debian: apt-get install ${line})")
  endif()

  if(no_compiler AND (NOT apt_get OR "g++" IN_LIST missing))
    message(FATAL_ERROR "lightnet: no C++ compiler found. "
                        "On Debian: sudo apt-get update && sudo apt-get install g++ make")
  endif()
endblock()
