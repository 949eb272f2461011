# The Python package: the native module, next to the C library that it links and ships.
if(NOT BUILD_SHARED_LIBS)
  message(FATAL_ERROR "The Python package ships a shared library, for programs in C: BUILD_SHARED_LIBS must be ON")
endif()
find_package(Python 3.10 REQUIRED COMPONENTS Interpreter Development.Module)
find_package(nanobind CONFIG REQUIRED)

# In a free-threaded Python the module leaves the interpreter's lock off.
nanobind_add_module(_native NB_STATIC NOMINSIZE FREE_THREADED NB_SUPPRESS_WARNINGS
  python/src/import.cpp
  python/src/module.cpp
  python/src/arguments.cpp
  python/src/blocks.cpp
  python/src/calls.cpp
  python/src/context.cpp
  python/src/device.cpp
  python/src/errors.cpp
  python/src/face.cpp
  python/src/match.cpp
  python/src/output.cpp
  python/src/messages.cpp
  python/src/params.cpp
  python/src/arrays.cpp
  python/src/buffers.cpp
  python/src/tensors.cpp
  python/src/threads.cpp)
set_source_files_properties(python/src/import.cpp PROPERTIES COMPILE_OPTIONS "${PIQUANT_BASELINE_FLAGS}")
# Its methods have names of functions that are elsewhere.
set_source_files_properties(python/src/context.cpp PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
target_link_libraries(_native PRIVATE piquant piquant_warnings ${CMAKE_DL_LIBS})
target_compile_options(_native PRIVATE ${PIQUANT_FLOAT_FLAGS})
target_link_options(_native PRIVATE ${PIQUANT_FLOAT_LINK_FLAGS})
set_target_properties(_native PROPERTIES INSTALL_RPATH "$ORIGIN/lib")
if(APPLE)
  set_target_properties(_native PROPERTIES INSTALL_RPATH "@loader_path/lib")
endif()

nanobind_add_stub(_native_stub MODULE _native OUTPUT _native.pyi PYTHON_PATH $<TARGET_FILE_DIR:_native> DEPENDS _native
                 INCLUDE_PRIVATE)

install(TARGETS _native LIBRARY DESTINATION piquant)
install(TARGETS piquant LIBRARY DESTINATION piquant/lib RUNTIME DESTINATION piquant ARCHIVE DESTINATION piquant/lib)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/_native.pyi DESTINATION piquant)
install(FILES include/piquant/quant.h DESTINATION piquant/include/piquant)
