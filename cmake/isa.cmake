# Instruction sets: name -> compiler flags, best first for each architecture. The units of src/isa are compiled once per
# entry, and require of the CPU what the flags let the compiler use, see src/cpu/features.hpp.
# PIQUANT_ISAS may be set to fewer of them.
set(PIQUANT_BASELINE_FLAGS "")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  set(PIQUANT_ISAS avx512 avx2 sse42 scalar CACHE STRING "Instruction sets to build, best first")
  set(PIQUANT_FLAGS_avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mf16c -mpopcnt)
  set(PIQUANT_FLAGS_avx2 -mavx2 -mf16c -mpopcnt)
  set(PIQUANT_FLAGS_sse42 -msse4.2 -mpopcnt)
  set(PIQUANT_FLAGS_scalar "")
  option(PIQUANT_EMULATE_AVX512 "Build the avx512 set of instructions that CPUs with AVX2 have, for tests; needs SIMDe" OFF)
  if(PIQUANT_EMULATE_AVX512)
    # Not optimized: that would take longer than the tests do without.
    set(PIQUANT_FLAGS_avx512 ${PIQUANT_FLAGS_avx2} -O0 -isystem ${PROJECT_SOURCE_DIR}/tests/emulation -Wno-psabi)
  endif()
  # Undoes what CXXFLAGS may ask for (-march=native, -mavx2), in the units that run before the check of the CPU.
  set(PIQUANT_BASELINE_FLAGS -mno-sse3 -mno-popcnt -mno-movbe -mno-lzcnt -mno-bmi -mno-bmi2 -mno-gfni)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64|ARM64)$")
  set(PIQUANT_ISAS neon scalar CACHE STRING "Instruction sets to build, best first")
  set(PIQUANT_FLAGS_neon "")  # Advanced SIMD is part of the baseline
  set(PIQUANT_FLAGS_scalar "")
else()
  set(PIQUANT_ISAS scalar CACHE STRING "Instruction sets to build, best first")
  set(PIQUANT_FLAGS_scalar "")
endif()

# On Windows, GCC believes that it can align vectors on the stack to their width, and cannot (its bug 54412): what it moves
# there as aligned faults. The assembler makes moves of any alignment of these, which take no longer.
set(PIQUANT_MOVE_FLAGS "")
if(WIN32 AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  check_cxx_compiler_flag(-Wa,-muse-unaligned-vector-move PIQUANT_HAS_UNALIGNED_VECTOR_MOVE)
  if(PIQUANT_HAS_UNALIGNED_VECTOR_MOVE)
    set(PIQUANT_MOVE_FLAGS -Wa,-muse-unaligned-vector-move)
  endif()
endif()

# A target of units of one set.
function(piquant_isa_units target isa)
  add_library(${target} OBJECT ${ARGN})
  string(TOUPPER ${isa} upper)
  target_compile_definitions(${target} PRIVATE PIQUANT_ISA=${isa} PIQUANT_SIMD_${upper})
  # Without exceptions and types to catch, the object has no references to the C++ runtime, which are weak in part.
  # Link-time optimization, which CXXFLAGS may ask for, could merge code across instruction sets, and run AVX-512 on a
  # machine without it.
  target_compile_options(${target} PRIVATE ${PIQUANT_FLAGS_${isa}} ${PIQUANT_MOVE_FLAGS} -fno-exceptions -fno-rtti -fno-lto)
  target_link_libraries(${target} PRIVATE piquant_flags)
  set_target_properties(${target} PROPERTIES INTERPROCEDURAL_OPTIMIZATION OFF UNITY_BUILD OFF)
  add_dependencies(piquant_isas ${target})
endfunction()

set(list "")
set(traffic_list "")
add_custom_target(piquant_isas)  # all of them, for scripts/check-isa-objects
foreach(isa IN LISTS PIQUANT_ISAS)
  string(APPEND list " X(${isa})")
  piquant_isa_units(piquant_isa_${isa} ${isa} src/isa/quantize.cpp src/isa/dequantize.cpp src/isa/quantize_dequantize.cpp
                    src/isa/minmax.cpp src/isa/rows.cpp src/isa/panels.cpp src/isa/table.cpp)
  list(APPEND PIQUANT_ISA_OBJECTS $<TARGET_OBJECTS:piquant_isa_${isa}>)
  # For benchmarks and tests. The scalar set has no vectors to compare with.
  if(NOT isa STREQUAL scalar)
    string(APPEND traffic_list " X(${isa})")
    piquant_isa_units(piquant_traffic_${isa} ${isa} src/isa/traffic.cpp)
    set_target_properties(piquant_traffic_${isa} PROPERTIES EXCLUDE_FROM_ALL ON)
    list(APPEND PIQUANT_TRAFFIC_OBJECTS $<TARGET_OBJECTS:piquant_traffic_${isa}>)
  endif()
endforeach()
file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/generated/isa_list.hpp CONTENT
     "#define PIQUANT_ISA_LIST(X)${list}\n#define PIQUANT_TRAFFIC_LIST(X)${traffic_list}\n" @ONLY)
