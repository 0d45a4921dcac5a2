# Compiler flags, said once: every target of ours links fc_compile.
add_library(fc_compile INTERFACE)
target_include_directories(fc_compile INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_definitions(fc_compile INTERFACE _GNU_SOURCE FC_VERSION="${PROJECT_VERSION}")
target_compile_options(fc_compile INTERFACE
    -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wformat=2
    -Wcast-qual -Wswitch-enum -Wvla -Wundef -fno-common)
if(CMAKE_C_COMPILER_ID MATCHES "Clang")
    # clang finds casts in the macros of protobuf-c's generated headers, where gcc, which has the check, forgives them.
    target_compile_options(fc_compile INTERFACE -Wno-cast-qual)
endif()
if(FC_WERROR)
    target_compile_options(fc_compile INTERFACE -Werror)
endif()

if(FC_SANITIZE)
    add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
    add_link_options(-fsanitize=address,undefined)
    if(FC_FUZZ)
        add_compile_options(-fsanitize=fuzzer-no-link)
        add_link_options(-fsanitize=fuzzer-no-link)
    endif()
elseif(CMAKE_BUILD_TYPE STREQUAL "Release" OR CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo")
    add_compile_options(-fstack-protector-strong -fstack-clash-protection -D_FORTIFY_SOURCE=2)
    add_link_options(-Wl,-z,relro -Wl,-z,now -Wl,--as-needed)
    # CMAKE_POSITION_INDEPENDENT_CODE compiles for it; the link has to be told as well.
    set(CMAKE_EXE_LINKER_FLAGS "${CMAKE_EXE_LINKER_FLAGS} -pie")
endif()

# fc_library(NAME LINKS...) makes a static library of the folder's sources.
function(fc_library name)
    file(GLOB sources CONFIGURE_DEPENDS *.c)
    add_library(${name} STATIC ${sources})
    target_link_libraries(${name} PUBLIC ${ARGN} PRIVATE fc_compile)
endfunction()
