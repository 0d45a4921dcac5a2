# cmake -D NAME=... -D INPUT=... -D FOLDER=... -P FcEmbed.cmake writes NAME.c and NAME.h, which make the bytes of a file
# available to C.
file(READ ${INPUT} digits HEX)
string(REGEX REPLACE "(..)" "0x\\1," numbers "${digits}")
string(REGEX REPLACE "(................................................................................)" "\\1\n" numbers
    "${numbers}")
file(WRITE ${FOLDER}/${NAME}.h
    "#include <stddef.h>\n\nextern const unsigned char ${NAME}[];\nextern const size_t ${NAME}_bytes;\n")
file(WRITE ${FOLDER}/${NAME}.c
    "#include \"${NAME}.h\"\n\nconst unsigned char ${NAME}[] = {\n${numbers}\n};\n"
    "const size_t ${NAME}_bytes = sizeof ${NAME};\n")
