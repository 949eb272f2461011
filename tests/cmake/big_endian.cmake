# Claims that what this machine's compiler compiles runs on a big-endian one: tells CMake what it would find out by compiling.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR s390x)
foreach(language C CXX)
  set(CMAKE_${language}_ABI_COMPILED TRUE)
  set(CMAKE_${language}_BYTE_ORDER BIG_ENDIAN)
endforeach()
