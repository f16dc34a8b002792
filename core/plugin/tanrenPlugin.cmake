# tanren_stage_plugin(NAME SOURCES ... [PROTOS ...]): the shared object libNAME.so, for `plugins:` of a config.
#
# PROTOS are the schemas of its options; foo.proto is included as "foo.pb.h". The object is linked to no code of
# Tanren's: it uses that of the program which loads it. After it is built the installed program looks at it once, so
# that what is missing or does not fit is said here; -DTANREN_PLUGIN_CHECK=OFF leaves that out.
option(TANREN_PLUGIN_CHECK "Let the installed tanren check a plugin after it is built" ON)

function(tanren_stage_plugin name)
  cmake_parse_arguments(arg "" "" "SOURCES;PROTOS" ${ARGN})
  get_target_property(include_directory tanren::plugin INTERFACE_INCLUDE_DIRECTORIES)
  set(generated)
  foreach(proto IN LISTS arg_PROTOS)
    get_filename_component(base ${proto} NAME_WE)
    set(output ${CMAKE_CURRENT_BINARY_DIR}/${base}.pb)
    get_filename_component(source ${proto} ABSOLUTE)
    get_filename_component(directory ${source} DIRECTORY)
    add_custom_command(
      OUTPUT ${output}.cc ${output}.h
      COMMAND protobuf::protoc --proto_path=${directory} --proto_path=${include_directory}
              --cpp_out=${CMAKE_CURRENT_BINARY_DIR} ${source}
      DEPENDS ${source} protobuf::protoc
      VERBATIM)
    list(APPEND generated ${output}.cc ${output}.h)
  endforeach()
  add_library(${name} MODULE ${arg_SOURCES} ${generated})
  target_include_directories(${name} PRIVATE ${CMAKE_CURRENT_BINARY_DIR})
  target_link_libraries(${name} PRIVATE tanren::plugin)
  # What is not the entry point stays inside: a class that happens to be named like one of Tanren's is another class.
  set_target_properties(${name} PROPERTIES PREFIX lib CXX_VISIBILITY_PRESET hidden CXX_EXTENSIONS OFF)
  if(TANREN_PLUGIN_CHECK)
    add_custom_command(TARGET ${name} POST_BUILD
      COMMAND tanren::program plugin check $<TARGET_FILE:${name}> VERBATIM)
  endif()
endfunction()
