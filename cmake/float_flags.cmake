# No flag from outside changes a result, or the process that loads the library. Flags that let the compiler compute
# something else, and GCC's that link code which sets flush-to-zero for the whole process (crtfastmath.o), are taken out
# of CMAKE_CXX_FLAGS and its like, so also out of what is linked; and our own flags, which come last, undo them where
# they come by another way, in CXX or from a project that includes this one. core/types.hpp refuses what is left.
set(PIQUANT_REFUSED_FLAGS
    "ffast-math|funsafe-math-optimizations|fassociative-math|freciprocal-math|ffinite-math-only|fno-signed-zeros"
    "fno-honor-nans|fno-honor-infinities|fapprox-func|fsingle-precision-constant|fshort-enums|fpack-struct(=.*)?"
    "ffp-contract=.*|ffp-model=.*|ffp-eval-method=.*|fexcess-precision=.*|fdenormal-fp-math(-f32)?=.*"
    "mdaz-ftz|mrecip(=.*)?|mfpmath=.*|mpc(32|64|80)|Ofast")
list(JOIN PIQUANT_REFUSED_FLAGS "|" PIQUANT_REFUSED_FLAGS)

set(refused "")
foreach(variable C_FLAGS CXX_FLAGS EXE_LINKER_FLAGS SHARED_LINKER_FLAGS MODULE_LINKER_FLAGS)
  foreach(suffix "" _DEBUG _RELEASE _RELWITHDEBINFO _MINSIZEREL)
    set(name CMAKE_${variable}${suffix})
    separate_arguments(flags NATIVE_COMMAND "${${name}}")
    set(found ${flags})
    list(FILTER found INCLUDE REGEX "^-(${PIQUANT_REFUSED_FLAGS})$")
    if(found)
      list(APPEND refused ${found})
      string(REGEX REPLACE "[ \t\r\n]+" " " ${name} "${${name}}")
      foreach(flag IN LISTS found)
        # -Ofast is -O3 with -ffast-math, and we have -O2 for the former.
        string(REPLACE "-Ofast" "-O2" instead "${flag}")
        if(instead STREQUAL flag)
          set(instead "")
        endif()
        string(REPLACE " ${flag} " " ${instead} " ${name} " ${${name}} ")
        string(STRIP "${${name}}" ${name})
      endforeach()
    endif()
  endforeach()
endforeach()
if(refused)
  list(REMOVE_DUPLICATES refused)
  list(JOIN refused " " refused)
  message(WARNING "piquant is built without ${refused}: its results are the same everywhere, and do not depend on flags")
endif()

# What undoes them. Each compiler knows some.
include(CheckCXXCompilerFlag)
set(PIQUANT_FLOAT_FLAGS -ffp-contract=off)
set(PIQUANT_FLOAT_LINK_FLAGS "")
foreach(flag -fno-fast-math -fno-unsafe-math-optimizations -fno-associative-math -fno-reciprocal-math -fno-finite-math-only
             -fsigned-zeros -fhonor-nans -fhonor-infinities -fno-approx-func -fno-single-precision-constant
             -fno-short-enums -ffp-eval-method=source -fdenormal-fp-math=ieee -mfpmath=sse -mno-recip -mno-daz-ftz)
  string(MAKE_C_IDENTIFIER "PIQUANT_HAS${flag}" known)
  check_cxx_compiler_flag("-Werror ${flag}" ${known})
  if(${known})
    list(APPEND PIQUANT_FLOAT_FLAGS ${flag})
    if(flag MATCHES "^-(fno-fast-math|fno-unsafe-math-optimizations|mno-daz-ftz)$")
      list(APPEND PIQUANT_FLOAT_LINK_FLAGS ${flag})
    endif()
  endif()
endforeach()
