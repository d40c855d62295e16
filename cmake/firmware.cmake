# Images for a board: -DSP_BOARD=<folder of device/boards> with cmake/cm33.cmake (presets firmware-*).

set(SP_BOARD_DIR ${PROJECT_SOURCE_DIR}/device/boards/${SP_BOARD})
if(NOT EXISTS ${SP_BOARD_DIR}/board.h)
    message(FATAL_ERROR "SP_BOARD=${SP_BOARD}: there is no ${SP_BOARD_DIR}/board.h")
endif()
set(CMAKE_POSITION_INDEPENDENT_CODE OFF)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
set(SP_NS_LINK_SCRIPT ${CMAKE_BINARY_DIR}/ns.ld)

# sp_linker_script(OUT TEMPLATE): TEMPLATE of device/boards through the C preprocessor, with the board's map.h.
function(sp_linker_script out template)
    set(from ${PROJECT_SOURCE_DIR}/device/boards/${template})
    add_custom_command(OUTPUT ${out}
        COMMAND ${CMAKE_C_COMPILER} -E -P -x c -I${PROJECT_SOURCE_DIR} -include ${SP_BOARD_DIR}/map.h ${from} -o ${out}
        DEPENDS ${from} ${SP_BOARD_DIR}/map.h ${PROJECT_SOURCE_DIR}/device/boards/map_common.h
            ${PROJECT_SOURCE_DIR}/device/boards/mps2/map.h VERBATIM)
endfunction()

# sp_image(NAME SCRIPT ld SOURCES … DEPS …): NAME.elf, linked by a script that sp_linker_script() made.
function(sp_image name)
    cmake_parse_arguments(arg "" "SCRIPT" "SOURCES;DEPS" ${ARGN})
    get_filename_component(script_name ${arg_SCRIPT} NAME)
    add_executable(${name} ${arg_SOURCES} ${arg_SCRIPT})
    set_target_properties(${name} PROPERTIES SUFFIX .elf LINK_DEPENDS ${arg_SCRIPT})
    target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR} ${SP_BOARD_DIR})
    target_link_libraries(${name} PRIVATE ${arg_DEPS} sp_warnings)
    target_link_options(${name} PRIVATE -nostartfiles -T${arg_SCRIPT} -Wl,--gc-sections
        -Wl,-Map=$<TARGET_FILE:${name}>.map -Wl,--no-warn-rwx-segments -Wl,--fatal-warnings)
endfunction()

# sp_ns_image(NAME SOURCES … DEPS …): a non-secure image; the secure world answers through sp_ns.
function(sp_ns_image name)
    cmake_parse_arguments(arg "" "" "SOURCES;DEPS" ${ARGN})
    sp_image(${name} SCRIPT ${SP_NS_LINK_SCRIPT} SOURCES ${arg_SOURCES} DEPS ${arg_DEPS} sp_ns)
    add_dependencies(${name} sp_ns_script)
endfunction()

sp_linker_script(${SP_NS_LINK_SCRIPT} ns.ld)
add_custom_target(sp_ns_script DEPENDS ${SP_NS_LINK_SCRIPT})

# sp_measurements(NS): measurements.txt for the secure image together with the image NS, as arguments of
# `sallyport reference add`.
function(sp_measurements ns)
    set(out ${CMAKE_BINARY_DIR}/measurements.txt)
    add_custom_command(OUTPUT ${out}
        COMMAND ${PROJECT_SOURCE_DIR}/tools/measure.py ${SP_BOARD} $<TARGET_FILE:secure> $<TARGET_FILE:${ns}> -o ${out}
        DEPENDS secure ${ns} ${PROJECT_SOURCE_DIR}/tools/measure.py VERBATIM)
    add_custom_target(measurements ALL DEPENDS ${out})
endfunction()
