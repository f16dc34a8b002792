# Writes OUTPUT, a header with the project's VERSION and one SHA-256 over the names and contents of HEADERS.
list(SORT HEADERS)
set(all "")
foreach(header IN LISTS HEADERS)
  file(SHA256 ${header} hash)
  file(RELATIVE_PATH name ${ROOT} ${header})
  string(APPEND all "${name} ${hash}\n")
endforeach()
string(SHA256 interface "${all}")
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT [[// Which Tanren these headers are. Generated.
#ifndef TANREN_CORE_PLUGIN_INTERFACE_ID_H_
#define TANREN_CORE_PLUGIN_INTERFACE_ID_H_

#define TANREN_INTERFACE_VERSION "@VERSION@"
#define TANREN_INTERFACE_ID "@interface@"

#endif  // TANREN_CORE_PLUGIN_INTERFACE_ID_H_
]] @ONLY)
