# Third-party source that packaging/fetch-sources.sh brought: compiled here with our configuration, never patched.

set(SP_THIRDPARTY_DIR ${PROJECT_SOURCE_DIR}/build/thirdparty CACHE PATH
    "where packaging/fetch-sources.sh put the third-party source")

# sp_mbedtls(NAME CONFIG header INCLUDES dir …): Mbed TLS as a static library; CONFIG is relative to the repository's root.
# What is not configured compiles to nothing, so all files of the library are handed to the compiler.
function(sp_mbedtls name)
    cmake_parse_arguments(arg "" "CONFIG" "INCLUDES" ${ARGN})
    set(root ${SP_THIRDPARTY_DIR}/mbedtls)
    if(NOT EXISTS ${root}/include/mbedtls/build_info.h OR NOT EXISTS ${SP_THIRDPARTY_DIR}/VERSIONS)
        message(FATAL_ERROR "The source of Mbed TLS is not in ${SP_THIRDPARTY_DIR}. "
            "Run packaging/fetch-sources.sh (or point -DSP_THIRDPARTY_DIR to where it put it).")
    endif()
    file(STRINGS ${root}/include/mbedtls/build_info.h version REGEX "MBEDTLS_VERSION_STRING ")
    if(NOT version MATCHES "\"3\\.6\\.")
        message(FATAL_ERROR "${root} is not Mbed TLS 3.6: ${version}")
    endif()
    file(GLOB sources CONFIGURE_DEPENDS ${root}/library/*.c)
    add_library(${name} STATIC ${sources})
    target_include_directories(${name} SYSTEM PUBLIC ${root}/include)
    target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR} ${arg_INCLUDES})
    target_compile_definitions(${name} PUBLIC MBEDTLS_CONFIG_FILE="${arg_CONFIG}")
    target_compile_options(${name} PRIVATE -w)
endfunction()
