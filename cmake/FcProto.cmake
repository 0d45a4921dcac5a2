# fc_proto(TARGET FILE...) generates C from .proto files below proto/ at build time, as a library whose headers
# are included as "fc/chat/v1/chat.pb-c.h", and a second library, TARGET_descriptors. Of files with services there are
# typed calls as well, "fc/chat/v1/chat.stub.h".
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
    fc_proto_stubs(${target} ${ARGN})
endfunction()

# fc_proto_stubs(TARGET FILE...) adds the typed calls to a library of fc_proto's.
function(fc_proto_stubs target)
    set(out ${CMAKE_CURRENT_BINARY_DIR}/gen)
    set(descriptors ${out}/${target}_descriptors/${target}_descriptors.pb)
    set(files)
    set(stubs)
    foreach(file IN LISTS ARGN)
        # Whether a file has services has to be known before anything is built, and anew when it changes: the messages
        # that fc-gen itself is made of cannot wait for fc-gen.
        set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
        file(STRINGS ${file} services REGEX "^[ \t]*service[ \t]+[A-Za-z_]")
        if(services)
            string(REGEX REPLACE "\\.proto$" ".stub.h" stub ${file})
            list(APPEND files ${file})
            list(APPEND stubs ${out}/${stub})
        endif()
    endforeach()
    if(NOT files)
        return()
    endif()
    add_custom_command(
        OUTPUT ${stubs}
        COMMAND fc-gen ${descriptors} ${out} ${files}
        DEPENDS fc-gen ${descriptors}
        VERBATIM)
    target_sources(${target} PRIVATE ${stubs})
    # Both have the descriptors' command: one after the other.
    add_dependencies(${target} ${target}_descriptors)
endfunction()

# fc_proto_descriptors(TARGET FILE...) embeds what .proto files say, comments and imports included, as a
# FileDescriptorSet: the library TARGET declares it in <TARGET.h>.
function(fc_proto_descriptors target)
    set(out ${CMAKE_CURRENT_BINARY_DIR}/gen/${target})
    set(embed ${PROJECT_SOURCE_DIR}/cmake/FcEmbed.cmake)
    list(TRANSFORM ARGN PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/)
    file(MAKE_DIRECTORY ${out})
    add_custom_command(
        OUTPUT ${out}/${target}.c ${out}/${target}.h ${out}/${target}.pb
        COMMAND ${PROTOC_C} --proto_path=${CMAKE_CURRENT_SOURCE_DIR} --descriptor_set_out=${out}/${target}.pb
            --include_imports --include_source_info ${ARGN}
        COMMAND ${CMAKE_COMMAND} -D NAME=${target} -D INPUT=${out}/${target}.pb -D FOLDER=${out} -P ${embed}
        DEPENDS ${ARGN} ${embed}
        VERBATIM)
    add_library(${target} STATIC EXCLUDE_FROM_ALL ${out}/${target}.c)
    target_include_directories(${target} SYSTEM PUBLIC ${out})
endfunction()
