# fc_proto(TARGET FILE...) generates C from .proto files below proto/ at build time, as a library whose headers
# are included as "fc/chat/v1/chat.pb-c.h", and a second library, TARGET_descriptors.
find_program(PROTOC_C NAMES protoc-c protoc REQUIRED)

function(fc_proto target)
    set(out ${CMAKE_CURRENT_BINARY_DIR}/gen)
    set(sources)
    foreach(file IN LISTS ARGN)
        string(REGEX REPLACE "\\.proto$" ".pb-c" stem ${file})
        get_filename_component(folder ${out}/${stem} DIRECTORY)
        file(MAKE_DIRECTORY ${folder})
        add_custom_command(
            OUTPUT ${out}/${stem}.c ${out}/${stem}.h
            COMMAND ${PROTOC_C} --proto_path=${CMAKE_CURRENT_SOURCE_DIR} --c_out=${out} ${CMAKE_CURRENT_SOURCE_DIR}/${file}
            DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${file}
            VERBATIM)
        list(APPEND sources ${out}/${stem}.c)
    endforeach()
    add_library(${target} STATIC ${sources})
    target_include_directories(${target} SYSTEM PUBLIC ${out})
    target_link_libraries(${target} PUBLIC PkgConfig::PROTOBUF_C)
    fc_proto_descriptors(${target}_descriptors ${ARGN})
endfunction()

# fc_proto_descriptors(TARGET FILE...) embeds what .proto files say, comments and imports included, as a
# FileDescriptorSet: the library TARGET declares it in <TARGET.h>.
function(fc_proto_descriptors target)
    set(out ${CMAKE_CURRENT_BINARY_DIR}/gen/${target})
    set(embed ${PROJECT_SOURCE_DIR}/cmake/FcEmbed.cmake)
    list(TRANSFORM ARGN PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/)
    file(MAKE_DIRECTORY ${out})
    add_custom_command(
        OUTPUT ${out}/${target}.c ${out}/${target}.h
        COMMAND ${PROTOC_C} --proto_path=${CMAKE_CURRENT_SOURCE_DIR} --descriptor_set_out=${out}/${target}.pb
            --include_imports --include_source_info ${ARGN}
        COMMAND ${CMAKE_COMMAND} -D NAME=${target} -D INPUT=${out}/${target}.pb -D FOLDER=${out} -P ${embed}
        DEPENDS ${ARGN} ${embed}
        VERBATIM)
    add_library(${target} STATIC EXCLUDE_FROM_ALL ${out}/${target}.c)
    target_include_directories(${target} SYSTEM PUBLIC ${out})
endfunction()
