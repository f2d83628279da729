# How everything here is compiled: flags, sanitizers, cache, linker, and the two functions that
# every folder uses (godwit_library, godwit_test).

set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)

add_compile_options(-Wall -Wextra -Wpedantic -Wswitch -Wnon-virtual-dtor -Wno-missing-field-initializers)
add_compile_definitions(_GNU_SOURCE BOOST_ASIO_NO_DEPRECATED BOOST_ASIO_SEPARATE_COMPILATION
                        BOOST_BEAST_SEPARATE_COMPILATION SPDLOG_FMT_EXTERNAL)
include_directories(${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR}/generated)

if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  add_link_options(-fuse-ld=mold)
endif()

if(CMAKE_BUILD_TYPE STREQUAL "Debug")
  # -gline-tables-only: stack traces with lines, half the objects of full debug information.
  set(CMAKE_CXX_FLAGS_DEBUG "-O1 -gline-tables-only")
endif()
if(GODWIT_SANITIZE)
  # Programs that are to be traced have no sanitizer: LeakSanitizer aborts in them. They set GODWIT_UNSANITIZED.
  set(sanitized "$<NOT:$<BOOL:$<TARGET_PROPERTY:GODWIT_UNSANITIZED>>>")
  add_compile_options("$<${sanitized}:-fsanitize=${GODWIT_SANITIZE};-fno-omit-frame-pointer;-fno-sanitize-recover=undefined>")
  add_link_options("$<${sanitized}:-fsanitize=${GODWIT_SANITIZE}>")
endif()

if(GODWIT_FUZZ)  # with GODWIT_SANITIZE, as in the preset
  # Without coverage in the libraries a fuzzer is blind; the runtime itself is linked by godwit_fuzz only.
  add_compile_options("$<${sanitized}:-fsanitize=fuzzer-no-link>")
endif()

# Objects do not depend on where the clone lies, so that a cache warmed by one clone serves the next.
add_compile_options(-ffile-prefix-map=${CMAKE_SOURCE_DIR}=.)
find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1
      CCACHE_SLOPPINESS=pch_defines,time_macros ${CCACHE})
endif()

find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(fmt REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(GTest REQUIRED)
pkg_check_modules(URING REQUIRED IMPORTED_TARGET liburing)
pkg_check_modules(CAP REQUIRED IMPORTED_TARGET libcap)
pkg_check_modules(LIBBPF REQUIRED IMPORTED_TARGET libbpf)
find_library(IPSEC_MB IPSec_MB REQUIRED)
if(CMAKE_BUILD_TYPE STREQUAL "Release")  # what is linked into a program of a fast start as well
  set(all_suffixes ${CMAKE_FIND_LIBRARY_SUFFIXES})
  set(CMAKE_FIND_LIBRARY_SUFFIXES .a)
  # A build directory that has found the shared ones keeps them, and what is linked with those does not start.
  foreach(found Protobuf_LIBRARY_RELEASE Protobuf_LIBRARY_DEBUG Protobuf_LIBRARY pkgcfg_lib_XXHASH_xxhash)
    unset(${found} CACHE)
  endforeach()
endif()
find_package(Protobuf REQUIRED)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
if(all_suffixes)
  set(CMAKE_FIND_LIBRARY_SUFFIXES ${all_suffixes})
endif()

# godwit_fast_start(PROGRAM): one that starts often, for a short time. Sanitizers want the shared libraries; a release has
# none in it: to load them, to look up their symbols and to touch their pages takes longer than all else of its start, and
# more so when the caches are cold. For them, what a start touches is also kept little and together: no code that nobody
# calls, addresses to relocate as a bitmap, the initialisers of all files side by side, and descriptors of messages only
# when somebody asks for them.
function(godwit_fast_start program)
  if(NOT CMAKE_BUILD_TYPE STREQUAL "Release")
    return()
  endif()
  target_link_options(${program} PRIVATE -static-pie -Wl,--gc-sections)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")  # whose linker here is mold
    target_link_options(${program} PRIVATE -Wl,--pack-dyn-relocs=relr -Wl,-z,keep-text-section-prefix)
  endif()
  target_sources(${program} PRIVATE ${CMAKE_SOURCE_DIR}/common/base/late_descriptors.cc)
  target_link_options(${program} PRIVATE
                      -Wl,--wrap=_ZN6google8protobuf8internal20AddDescriptorsRunnerC1EPKNS1_15DescriptorTableE)
endfunction()

# godwit_library(NAME DEPS lib... SOURCES file...): a static library `godwit_NAME`.
function(godwit_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(godwit_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(godwit_${name} PUBLIC ${ARG_DEPS})
endfunction()

# godwit_test(NAME DEPS lib... SOURCES file... [LABELS l...]): a GoogleTest program, one ctest entry.
function(godwit_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;DEPS;LABELS" ${ARGN})
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT})
endfunction()

# godwit_define_path(NAME path FILES file...): these files of this folder's targets, and no others, know the path as NAME.
# Whoever is compiled with a path of the build is compiled anew in every clone.
function(godwit_define_path name path)
  cmake_parse_arguments(ARG "" "" "FILES" ${ARGN})
  set_property(SOURCE ${ARG_FILES} APPEND PROPERTY COMPILE_DEFINITIONS ${name}="${path}")
endfunction()

# godwit_proto(NAME file.proto...): generates into build/generated/<path> and makes `godwit_NAME`.
# Include as "common/image/core.pb.h".
function(godwit_proto name)
  set(outputs)
  foreach(proto ${ARGN})
    file(RELATIVE_PATH relative ${CMAKE_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR}/${proto})
    string(REGEX REPLACE "\\.proto$" "" stem ${relative})
    set(cc ${CMAKE_BINARY_DIR}/generated/${stem}.pb.cc)
    set(h ${CMAKE_BINARY_DIR}/generated/${stem}.pb.h)
    add_custom_command(
      OUTPUT ${cc} ${h}
      COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/generated
      COMMAND protobuf::protoc --cpp_out=${CMAKE_BINARY_DIR}/generated -I ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/${relative}
      DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${proto}
      VERBATIM)
    list(APPEND outputs ${cc} ${h})
  endforeach()
  add_library(godwit_${name} STATIC ${outputs})
  # Generated code is not ours to warn about.
  target_compile_options(godwit_${name} PRIVATE -w)
  target_link_libraries(godwit_${name} PUBLIC protobuf::libprotobuf)
endfunction()
