# The native module of piquant_bench (benchmarks/), which calls the C API of an installed piquant, and has the traffic
# twins and what they need of the engine.
if(NOT CMAKE_SYSTEM_NAME STREQUAL "Linux")
  message(FATAL_ERROR "The benchmarks find the library that piquant has loaded as Linux does")
endif()
find_package(Python 3.10 REQUIRED COMPONENTS Interpreter Development.Module)
find_package(nanobind CONFIG REQUIRED)

# `import piquant` loads the library, and the loader takes it for every other module that names it. So linking needs its
# name and its symbols, not its code: another copy of that would take minutes to compile, and not be what is measured.
file(STRINGS tests/c/exported_symbols.txt symbols)
list(TRANSFORM symbols REPLACE "(.+)" "void \\1(void) {}\n")
list(JOIN symbols "" symbols)
file(CONFIGURE OUTPUT piquant_names/names.c CONTENT "${symbols}" @ONLY)
add_library(piquant_names SHARED EXCLUDE_FROM_ALL ${CMAKE_CURRENT_BINARY_DIR}/piquant_names/names.c)
set_target_properties(piquant_names PROPERTIES OUTPUT_NAME piquant LIBRARY_OUTPUT_DIRECTORY piquant_names)

add_library(piquant_session OBJECT EXCLUDE_FROM_ALL
  benchmarks/native/session.cpp
  src/cpu/placement.cpp
  src/cpu/sleep.cpp
  src/cpu/usable_cpus.cpp
  src/engine/thread_pool.cpp
  src/engine/validate.cpp)
target_link_libraries(piquant_session PRIVATE piquant_flags)
nanobind_add_module(piquant_bench NB_STATIC NOMINSIZE NB_SUPPRESS_WARNINGS
  benchmarks/native/module.cpp
  $<TARGET_OBJECTS:piquant_session>
  $<TARGET_OBJECTS:piquant_traffic>
  ${PIQUANT_TRAFFIC_OBJECTS})
target_include_directories(piquant_bench PRIVATE src include)
target_link_libraries(piquant_bench PRIVATE piquant_names piquant_warnings Threads::Threads)
set_target_properties(piquant_bench PROPERTIES OUTPUT_NAME _native LIBRARY_OUTPUT_DIRECTORY piquant_bench)
nanobind_add_stub(piquant_bench_stub MODULE _native OUTPUT piquant_bench/_native.pyi
                  PYTHON_PATH $<TARGET_FILE_DIR:piquant_bench> DEPENDS piquant_bench)

# What benchmarks/pyproject.toml builds and installs.
add_custom_target(benchmarks DEPENDS piquant_bench piquant_bench_stub)
install(TARGETS piquant_bench LIBRARY DESTINATION piquant_bench COMPONENT benchmarks)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/piquant_bench/_native.pyi DESTINATION piquant_bench COMPONENT benchmarks)
