# SPDX-License-Identifier: Apache-2.0
# The promise that add_subdirectory() of lightnet brings INTERFACE targets into a project and nothing else: no program,
# no test, no provider, no flag, no variable of a foreign name. Call snapshot() before and check_no_leaks() after.

# out: "<variable>=<hash of its value>" of every variable here, cache entries included, and the directory's properties.
function(snapshot out)
  get_cmake_property(names VARIABLES)
  list(FILTER names EXCLUDE REGEX "^(ARG[CNV][0-9]*|out|before|folder)$") # of these two functions
  foreach(property IN ITEMS COMPILE_OPTIONS COMPILE_DEFINITIONS INCLUDE_DIRECTORIES LINK_OPTIONS LINK_LIBRARIES TESTS)
    get_property(directory_${property} DIRECTORY PROPERTY ${property})
    list(APPEND names directory_${property})
  endforeach()
  set(entries "")
  foreach(name IN LISTS names)
    string(SHA1 hash "${${name}}")
    list(APPEND entries "${name}=${hash}")
  endforeach()
  set(${out} "${entries}" PARENT_SCOPE)
endfunction()

function(check_no_leaks before folder)
  snapshot(after)
  list(REMOVE_ITEM after ${before})
  # Its options, and what find_package() remembers of its dependencies.
  list(FILTER after EXCLUDE REGEX
       "^(LIGHTNET_|lightnet_|Eigen3_|OpenMP_|nlohmann_json_|FIND_PACKAGE_MESSAGE_DETAILS_OpenMP)")
  if(after)
    message(SEND_ERROR "lightnet changed or added in its parent: ${after}")
  endif()

  get_property(subdirectories DIRECTORY ${folder} PROPERTY SUBDIRECTORIES)
  get_property(tests DIRECTORY ${folder} PROPERTY TESTS)
  get_property(targets DIRECTORY ${folder} PROPERTY BUILDSYSTEM_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(type ${target} TYPE)
    if(type STREQUAL "INTERFACE_LIBRARY")
      list(REMOVE_ITEM targets ${target})
    endif()
  endforeach()
  if(subdirectories OR tests OR targets)
    message(SEND_ERROR "lightnet as a subproject brought along: ${subdirectories} ${tests} ${targets}")
  endif()
endfunction()
