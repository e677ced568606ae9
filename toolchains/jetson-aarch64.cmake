# Jetson from an x86-64 machine: libpillion, pillion-run and the CUDA module. Packages
# g++-aarch64-linux-gnu and nvcc of the CUDA version that the board has: JetPack 6 is CUDA 12.6
# (Orin, sm_87), JetPack 7 CUDA 13 (Thor, sm_110; Orin, sm_87).
#
# The board's CUDA headers and its static runtime come from a copy of a folder of the board
# (docs/jetson.md):
#
#   PILLION_JETSON_SYSROOT   holds usr/local/cuda/targets/aarch64-linux or …/sbsa-linux (also
#                            without usr/local/cuda in front), with include/cuda_runtime.h and
#                            lib/libcudart_static.a; as a cache variable or in the environment
#   PILLION_JETPACK          6 (default) or 7
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)

set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CUDA_HOST_COMPILER aarch64-linux-gnu-g++)
# Older CMakes (3.25) hand ar to the test of the CUDA compiler, but not ranlib: its archive would
# end in an empty command.
find_program(CMAKE_RANLIB aarch64-linux-gnu-ranlib REQUIRED)

if(NOT PILLION_JETSON_SYSROOT)
    set(PILLION_JETSON_SYSROOT "$ENV{PILLION_JETSON_SYSROOT}")
endif()
set(PILLION_JETPACK 6 CACHE STRING "JetPack of the board: 6 or 7")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES PILLION_JETSON_SYSROOT PILLION_JETPACK)

set(jetson_cuda "")
foreach(folder usr/local/cuda/targets/aarch64-linux usr/local/cuda/targets/sbsa-linux
    targets/aarch64-linux targets/sbsa-linux)
    set(folder "${PILLION_JETSON_SYSROOT}/${folder}")
    if(PILLION_JETSON_SYSROOT AND EXISTS "${folder}/include/cuda_runtime.h"
        AND EXISTS "${folder}/lib/libcudart_static.a")
        set(jetson_cuda "${folder}")
        break()
    endif()
endforeach()
if(NOT jetson_cuda)
    message(FATAL_ERROR
        "PILLION_JETSON_SYSROOT is \"${PILLION_JETSON_SYSROOT}\"; "
        "it must name a folder with the board's CUDA: "
        "usr/local/cuda/targets/aarch64-linux/include/cuda_runtime.h "
        "and …/lib/libcudart_static.a. Copy it from the board: "
        "rsync -aL BOARD:/usr/local/cuda/targets SYSROOT/usr/local/cuda/")
endif()

if(PILLION_JETPACK EQUAL 6)
    set(jetson_architectures 87-real)
elseif(PILLION_JETPACK EQUAL 7)
    set(jetson_architectures "87-real;110-real")
else()
    message(FATAL_ERROR "PILLION_JETPACK is \"${PILLION_JETPACK}\"; 6 and 7 are known")
endif()
set(CMAKE_CUDA_ARCHITECTURES "${jetson_architectures}" CACHE STRING "GPUs to compile for")

# A test program would need more of the board than we ask for.
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_CUDA_FLAGS_INIT "-I${jetson_cuda}/include")
# Of the compiler's identification.
set(ENV{CUDAFLAGS} "-I${jetson_cuda}/include -L${jetson_cuda}/lib")
set(CMAKE_MODULE_LINKER_FLAGS_INIT "-L${jetson_cuda}/lib")
set(PILLION_CUDART "${jetson_cuda}/lib/libcudart_static.a")
set(PILLION_CUDA_INCLUDE "${jetson_cuda}/include")

set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
