// A program that uses libfc: logs in, joins a room, and sends a message there, the last with a call of its own: all
// methods of the .proto files have typed functions in the headers named .stub.h.
//
//     cc -o hello hello.c $(pkg-config --cflags --libs libfc)
//     printf '%s' "$PASSWORD" | ./hello tcp://127.0.0.1:7420 alice kitchen 'Hello from C'
//
// What the functions promise is said in the headers, which are in $(pkg-config --variable=includedir libfc)/fc.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client/fc_room.h"
#include "client/fc_session.h"
#include "rpc/rpc_channel.h"

#include "fc/chat/v1/chat.stub.h"

// send_text returns when the message is on the server's disk.
static enum err
send_text(struct fc_session *session, char *room, char *text, uint64_t *seq_out, struct err_detail *why)
{
    struct rpc_unary call;
    const Fc__Chat__V1__SendResponse *response = NULL;
    Fc__Chat__V1__SendRequest request = FC__CHAT__V1__SEND_REQUEST__INIT;
    request.room = room;
    request.text = text;

    fc_chat_v1_chat_init(&call, fc_session_channel(session));
    call.timeout_ms = 10 * 1000;
    call.is_idempotent = true; // sent again when the connection breaks: Send executes once for each request id
    enum err code = fc_session_explain(&call, fc_chat_v1_chat_send(&call, &request, &response), why);
    if (code == ERR_OK) {
        *seq_out = response->seq;
    }
    rpc_unary_deinit(&call);
    return code;
}

int
main(int argc, char **argv)
{
    struct fc_credential server = {0};
    struct fc_credential login = {0};
    struct fc_session *session = NULL;
    struct fc_room room = {0};
    uint64_t seq = 0;
    struct err_detail why = {0};
    char password[1024];

    if (argc != 5 || strlen(argv[1]) >= sizeof server.server_url) {
        fprintf(stderr, "usage: %s SERVER-URL USER ROOM TEXT, with the password on standard input\n", argv[0]);
        return 2;
    }
    strcpy(server.server_url, argv[1]);
    size_t password_size = fread(password, 1, sizeof password, stdin);

    enum err code = fc_session_open(&server, NULL, &session, &why);
    if (code == ERR_OK) {
        code = fc_session_log_in(session, argv[2], bytes_view_of(password, password_size), &login, &why);
    }
    if (code == ERR_OK) {
        code = fc_room_join(session, argv[3], &room, &why);
    }
    if (code == ERR_OK) {
        code = send_text(session, argv[3], argv[4], &seq, &why);
    }
    if (code == ERR_OK) {
        printf("message %" PRIu64 " of %s\n", seq, room.name);
        code = fc_session_log_out(session, &why);
    }
    if (code != ERR_OK) {
        fprintf(stderr, "%s: %s\n", argv[0], err_message(&why, code));
    }
    fc_session_close(&session);
    return code == ERR_OK ? 0 : 1;
}
