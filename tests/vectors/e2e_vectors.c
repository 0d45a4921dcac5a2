// Compares the vectors in a folder with what the code gives:
//     e2e_vectors FOLDER
// and, after a change that is meant, writes them:
//     e2e_vectors --write FOLDER

#include "e2e_vectors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    const char *about;
    void (*write)(struct vector_json *json);
} files[] = {
    {"seal", "seal(secret, label, context, plain) with the salt given", write_seal},
    {"hpke", "HPKE in base mode, X25519, HKDF-SHA256, AES-256-GCM, with the ephemeral key given", write_hpke},
    {"epoch", "an epoch's commitment, a wrap of its secret for a device, and the rung back to the epoch before",
        write_epoch},
    {"message", "messages, padded, sealed and signed, and the chain over them", write_message},
    {"user_chain", "a user's chain, what it comes to, and entries that are refused as its next one", write_user_chain},
    {"room_log", "a room's log, what each entry makes of the room, and entries that are refused as its next one",
        write_room_log},
    {"file", "files in segments", write_file},
    {"recovery", "recovery keys, how they are written and typed, and the keys of their pseudo-device", write_recovery},
    {"safety_number", "the numbers that two users compare", write_safety_number},
    {"link_keys", "the keys that the secret of an invite link becomes", write_link_keys},
    {"grant", "grants, and the tree over segments that they commit to", write_grant},
};

void
fill(uint8_t *out, size_t size, uint8_t first)
{
    for (size_t i = 0; i < size; i++) {
        out[i] = (uint8_t)(first + i);
    }
}

static bool
is_same(FILE *file, struct bytes_view expected)
{
    bool same = true;
    for (size_t i = 0; same && i < expected.size; i++) {
        same = fgetc(file) == expected.data[i];
    }
    return same && fgetc(file) == EOF;
}

// Whether all went well.
static bool
handle_file(const char *folder, size_t index, bool is_writing)
{
    struct vector_json json = {0};
    vector_json_begin(&json, NULL, '{');
    vector_json_text(&json, "about", files[index].about);
    files[index].write(&json);
    vector_json_end(&json, '}');

    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/%s.json", folder, files[index].name);
    FILE *file = fopen(path, is_writing ? "w" : "r");
    if (file == NULL) {
        perror(path);
        bytes_free(&json.text);
        return false;
    }
    bool done = is_writing ? fwrite(json.text.data, 1, json.text.size, file) == json.text.size
                           : is_same(file, bytes_as_view(&json.text));
    done = fclose(file) == 0 && done;
    if (!done) {
        (void)fprintf(stderr, "%s %s\n", path, is_writing ? "cannot be written" : "is not what the code gives");
    }
    bytes_free(&json.text);
    return done;
}

int
main(int argument_count, char **arguments)
{
    bool is_writing = argument_count == 3 && strcmp(arguments[1], "--write") == 0;
    if (argument_count != 2 && !is_writing) {
        (void)fprintf(stderr, "usage: %s [--write] FOLDER\n", arguments[0]);
        return 2;
    }
    bool done = true;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        done = handle_file(arguments[argument_count - 1], i, is_writing) && done;
    }
    return done ? EXIT_SUCCESS : EXIT_FAILURE;
}
