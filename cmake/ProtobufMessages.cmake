# tally_protobuf(NAME PROTO): a static library of the code that protoc makes of a .proto file, whose
# header is included by its path from the root of the project. For tests: they decode with generated
# code what we encode by hand.
find_package(Protobuf REQUIRED)

function(tally_protobuf name proto)
  get_filename_component(source ${proto} ABSOLUTE)
  file(RELATIVE_PATH relative ${PROJECT_SOURCE_DIR} ${source})
  string(REGEX REPLACE "\\.proto$" ".pb" stem ${PROJECT_BINARY_DIR}/generated/${relative})
  add_custom_command(
    OUTPUT ${stem}.cc ${stem}.h
    COMMAND ${CMAKE_COMMAND} -E make_directory ${PROJECT_BINARY_DIR}/generated
    COMMAND protobuf::protoc --cpp_out=${PROJECT_BINARY_DIR}/generated
            --proto_path=${PROJECT_SOURCE_DIR} ${source}
    DEPENDS ${source} protobuf::protoc)
  add_library(${name} STATIC ${stem}.cc)
  # Not our code: none of our warnings.
  target_compile_options(${name} PRIVATE -w)
  target_include_directories(${name} SYSTEM PUBLIC ${PROJECT_BINARY_DIR}/generated)
  target_link_libraries(${name} PUBLIC protobuf::libprotobuf)
endfunction()
