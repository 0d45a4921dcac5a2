# fc_proto(TARGET FILE...) generates C from .proto files below proto/ at build time, as a library whose headers
# are included as "fc/chat/v1/chat.pb-c.h".
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
endfunction()
