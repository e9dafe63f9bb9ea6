# embed.cmake - turns a text file into C at build time: OUT.h and OUT.c with the bytes as NAME[NAME_N],
# NAME_ETAG (changes with them) and NAME_HASH (what a Content-Security-Policy calls them).
#   cmake -DFILE=page.html -DNAME=PAGE_HTML -DOUT=build/page_html [-DSTYLE=a.css] [-DSCRIPT="a.js|b.js"]
# With STYLE and SCRIPT, which are joined and take the place of the lines @STYLE@ and @SCRIPT@ in FILE,
# also NAME_STYLE_HASH and NAME_SCRIPT_HASH. Called by embed() in CMakeLists.txt.
cmake_minimum_required(VERSION 3.25)

# 'sha256-<base64>' of text. CMake has the sum in hexadecimal; three digits are two of base64.
function(csp_hash out text)
  set(letters "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
  string(SHA256 hex "${text}")
  set(hex "${hex}00")
  set(base64 "")
  foreach(at RANGE 0 63 3)
    string(SUBSTRING "${hex}" ${at} 3 digits)
    math(EXPR first "0x${digits} >> 6")
    math(EXPR second "0x${digits} & 63")
    string(SUBSTRING "${letters}" ${first} 1 a)
    string(SUBSTRING "${letters}" ${second} 1 b)
    string(APPEND base64 "${a}${b}")
  endforeach()
  string(SUBSTRING "${base64}" 0 43 base64) # 32 bytes leave the last digit empty
  set(${out} "sha256-${base64}=" PARENT_SCOPE)
endfunction()

# The files of a list separated by |, one after the other.
function(read_all out list)
  set(all "\n")
  string(REPLACE "|" ";" list "${list}")
  foreach(file IN LISTS list)
    file(READ "${file}" text)
    string(APPEND all "${text}")
  endforeach()
  set(${out} "${all}" PARENT_SCOPE)
endfunction()

file(READ "${FILE}" text)
set(macros "")
foreach(part STYLE SCRIPT)
  if(DEFINED ${part})
    read_all(content "${${part}}")
    string(REPLACE "@${part}@" "${content}" text "${text}")
    csp_hash(hash "${content}")
    string(APPEND macros "#define ${NAME}_${part}_HASH \"${hash}\"\n")
  endif()
endforeach()
csp_hash(hash "${text}")
string(SHA256 etag "${text}")
string(SUBSTRING "${etag}" 0 16 etag)
get_filename_component(stem "${OUT}" NAME)
get_filename_component(source "${FILE}" NAME)

file(WRITE "${OUT}.text" "${text}")
file(READ "${OUT}.text" bytes HEX)
string(REGEX REPLACE "(................................)" "\\1\n" bytes "${bytes}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
file(WRITE "${OUT}.h" "// ${stem}.h - ${source}, embedded. Made by tools/embed.cmake.
#pragma once
#include <stddef.h>
extern const unsigned char ${NAME}[];
extern const size_t ${NAME}_N;
#define ${NAME}_ETAG \"\\\"${etag}\\\"\"
#define ${NAME}_HASH \"${hash}\"
${macros}")
file(WRITE "${OUT}.c" "// ${stem}.c - see ${stem}.h.
#include \"${stem}.h\"
const unsigned char ${NAME}[] = {
${bytes}
};
const size_t ${NAME}_N = sizeof ${NAME};
")
