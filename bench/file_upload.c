// Sends one file with a given number of chunks in flight:
//     file_upload CHUNKS FILE
// Server and login are those of fc.
#include <stdio.h>
#include <stdlib.h>

#include "client/fc_config.h"
#include "client/fc_file.h"
#include "client/fc_session.h"

int
main(int argument_count, char **arguments)
{
    struct err_detail why = {0};
    struct fc_credential credential = {0};
    struct fc_session *session = NULL;
    struct fc_file file;
    if (argument_count != 3) {
        (void)fprintf(stderr, "usage: %s CHUNKS FILE\n", arguments[0]);
        return 2;
    }
    struct fc_transfer_options options = {.chunks_in_flight = (unsigned)strtoul(arguments[1], NULL, 10)};
    enum err err = fc_config_load(NULL, &credential, &why);
    if (err == ERR_OK) {
        err = fc_session_open(&credential, NULL, &session, &why);
    }
    if (err == ERR_OK) {
        err = fc_file_upload(session, arguments[2], NULL, NULL, &options, &file, &why);
    }
    fc_session_close(&session);
    if (err != ERR_OK) {
        (void)fprintf(stderr, "%s: %s\n", arguments[2], err_message(&why, err));
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
