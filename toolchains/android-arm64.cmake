# arm64 phones.
#
#   ANDROID_NDK set (variable or environment)   the NDK's own toolchain: bionic, and device
#   libraries can be opened otherwise                                   zig (pip install ziglang):
#   static musl, runs on Android's kernel from adb shell, but can't open
#                                               the vendor's libraries; good for the CPU, and run
#                                               here by qemu-aarch64
if(NOT ANDROID_NDK AND DEFINED ENV{ANDROID_NDK})
    set(ANDROID_NDK "$ENV{ANDROID_NDK}")
endif()

if(ANDROID_NDK)
    if(NOT EXISTS "${ANDROID_NDK}/build/cmake/android.toolchain.cmake")
        message(FATAL_ERROR
            "ANDROID_NDK is ${ANDROID_NDK}, which has no build/cmake/android.toolchain.cmake: "
            "name the NDK's own folder")
    endif()
    set(ANDROID_ABI arm64-v8a CACHE STRING "")
    set(ANDROID_PLATFORM android-28 CACHE STRING "")
    set(ANDROID_STL c++_static CACHE STRING "")
    set(ANDROID_SUPPORT_FLEXIBLE_PAGE_SIZES ON CACHE BOOL "") # pages of 16 KB, Android 15 and later
    include("${ANDROID_NDK}/build/cmake/android.toolchain.cmake")
    return()
endif()

set(zig_for Android)
set(zig_instead ANDROID_NDK)
include("${CMAKE_CURRENT_LIST_DIR}/find_zig.cmake")

set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_C_COMPILER "${ZIG_EXECUTABLE}" cc)
set(CMAKE_CXX_COMPILER "${ZIG_EXECUTABLE}" c++)
foreach(language C CXX)
    # With it CMake identifies the compiler by an object; a program would take zig a minute and a
    # half, in which it builds its libraries.
    set(CMAKE_${language}_COMPILER_TARGET aarch64-linux-musl)
    set(CMAKE_${language}_ARCHIVE_CREATE "\"${ZIG_EXECUTABLE}\" ar qcs <TARGET> <OBJECTS>")
    set(CMAKE_${language}_ARCHIVE_FINISH "")
endforeach()
set(CMAKE_EXE_LINKER_FLAGS_INIT "-static")
set(PILLION_SHARED OFF CACHE BOOL "") # a static libc has no shared libraries
find_program(QEMU_AARCH64 qemu-aarch64)
set(CMAKE_CROSSCOMPILING_EMULATOR "${QEMU_AARCH64};-cpu;max")
