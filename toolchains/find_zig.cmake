# ZIG_EXECUTABLE: zig from PyPI (pip install ziglang) of ZIG_PYTHON, or a message that says what is
# missing. HTP and Android take it where their vendor's compiler is not there; `zig_for` and
# `zig_instead` fill in the message.
if(NOT ZIG_EXECUTABLE)
    find_program(ZIG_PYTHON NAMES python3 python REQUIRED)
    execute_process(
        COMMAND "${ZIG_PYTHON}" -c
        "import ziglang, os; print(os.path.join(os.path.dirname(ziglang.__file__), 'zig'))"
        OUTPUT_VARIABLE ZIG_EXECUTABLE OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed
        ERROR_QUIET)
    if(failed)
        message(FATAL_ERROR
            "no compiler for ${zig_for}: set ${zig_instead}, or pip install ziglang "
            "for ${ZIG_PYTHON} "
            "(another Python: -DZIG_PYTHON=...)")
    endif()
    set(ZIG_EXECUTABLE "${ZIG_EXECUTABLE}" CACHE FILEPATH "the zig program")
endif()
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES ZIG_EXECUTABLE)
