// Answers a line of standard input with one of standard output, for vectors that a test reads from files. Arguments are
// hex digits, "-" for none:
//     sign PRIVATE DATA                    public key and signature
//     verify PUBLIC DATA SIGNATURE         ok
//     agree PRIVATE PUBLIC                 the shared secret
//     seal KEY NONCE AAD PLAIN             ciphertext and tag
//     open KEY NONCE AAD SEALED            the plaintext
//     hkdf IKM SALT INFO SIZE              the output; SIZE in decimal
// or with the name of the error.

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crypto.h"
#include "base/digest.h"

enum {
    ARGUMENTS_MAX = 4,
    LINE_MAX_BYTES = 1024 * 1024,
    HKDF_MAX_BYTES = 255 * DIGEST_SHA256_BYTES,
};

// A line taken apart: what it wants, and bytes that are freed with it.
struct request {
    char *what;
    char *texts[ARGUMENTS_MAX];
    struct bytes arguments[ARGUMENTS_MAX];
};

static struct bytes_view
argument(const struct request *request, size_t index)
{
    return bytes_as_view(&request->arguments[index]);
}

static bool
has_size(const struct request *request, size_t index, size_t size)
{
    return request->arguments[index].size == size;
}

// Keys and signatures of other sizes do not get as far as to be used anywhere.
static enum err
run_signature(const struct request *request, struct bytes *out)
{
    if (!has_size(request, 0, CRYPTO_KEY_BYTES)) {
        return ERR_INVALID;
    }
    const uint8_t *key = argument(request, 0).data;
    if (strcmp(request->what, "verify") == 0) {
        return has_size(request, 2, CRYPTO_SIGNATURE_BYTES)
                   ? crypto_verify(key, argument(request, 1), argument(request, 2).data)
                   : ERR_INVALID;
    }
    uint8_t both[CRYPTO_KEY_BYTES + CRYPTO_SIGNATURE_BYTES];
    enum err err = crypto_sign_public(key, both);
    if (err == ERR_OK) {
        err = crypto_sign(key, argument(request, 1), both + CRYPTO_KEY_BYTES);
    }
    return err == ERR_OK ? bytes_append(out, bytes_view_of(both, sizeof(both))) : err;
}

static enum err
run_agree(const struct request *request, struct bytes *out)
{
    uint8_t shared[CRYPTO_KEY_BYTES];
    if (!has_size(request, 0, CRYPTO_KEY_BYTES) || !has_size(request, 1, CRYPTO_KEY_BYTES)) {
        return ERR_INVALID;
    }
    enum err err = crypto_box_agree(argument(request, 0).data, argument(request, 1).data, shared);
    return err == ERR_OK ? bytes_append(out, bytes_view_of(shared, sizeof(shared))) : err;
}

static enum err
run_sealing(const struct request *request, struct bytes *out)
{
    if (!has_size(request, 0, CRYPTO_KEY_BYTES) || !has_size(request, 1, CRYPTO_NONCE_BYTES)) {
        return ERR_INVALID;
    }
    const uint8_t *key = argument(request, 0).data;
    const uint8_t *nonce = argument(request, 1).data;
    return strcmp(request->what, "seal") == 0
               ? crypto_seal(key, nonce, argument(request, 2), argument(request, 3), out)
               : crypto_open(key, nonce, argument(request, 2), argument(request, 3), out);
}

static enum err
run_hkdf(const struct request *request, struct bytes *out)
{
    static uint8_t okm[HKDF_MAX_BYTES];
    size_t size = request->texts[3] == NULL ? 0 : strtoul(request->texts[3], NULL, 10);
    enum err err = digest_hkdf_sha256(argument(request, 0), argument(request, 1), argument(request, 2), okm, size);
    return err == ERR_OK ? bytes_append(out, bytes_view_of(okm, size)) : err;
}

static enum err
run(const struct request *request, struct bytes *out)
{
    if (strcmp(request->what, "verify") == 0 || strcmp(request->what, "sign") == 0) {
        return run_signature(request, out);
    }
    if (strcmp(request->what, "agree") == 0) {
        return run_agree(request, out);
    }
    if (strcmp(request->what, "seal") == 0 || strcmp(request->what, "open") == 0) {
        return run_sealing(request, out);
    }
    return strcmp(request->what, "hkdf") == 0 ? run_hkdf(request, out) : ERR_UNIMPLEMENTED;
}

static enum err
parse(char *line, struct request *request)
{
    char *rest = NULL;
    request->what = strtok_r(line, " \n", &rest);
    if (request->what == NULL) {
        return ERR_INVALID;
    }
    for (size_t i = 0; i < ARGUMENTS_MAX; i++) {
        request->texts[i] = strtok_r(NULL, " \n", &rest);
        if (request->texts[i] == NULL || strcmp(request->texts[i], "-") == 0 ||
            (i == 3 && strcmp(request->what, "hkdf") == 0)) {
            continue;
        }
        size_t size = strlen(request->texts[i]) / 2;
        enum err err = bytes_reserve(&request->arguments[i], size + 1);
        if (err == ERR_OK) {
            err = bytes_from_hex(request->texts[i], request->arguments[i].data, size);
        }
        if (err != ERR_OK) {
            return err;
        }
        request->arguments[i].size = size;
    }
    return ERR_OK;
}

static void
answer(char *line)
{
    struct request request = {0};
    struct bytes out = {0};
    enum err err = parse(line, &request);
    if (err == ERR_OK) {
        err = run(&request, &out);
    }
    if (err != ERR_OK) {
        (void)printf("%s\n", err_name(err));
    } else {
        (void)printf("ok ");
        for (size_t i = 0; i < out.size; i++) {
            (void)printf("%02x", out.data[i]);
        }
        (void)printf("\n");
    }
    bytes_free(&out);
    for (size_t i = 0; i < ARGUMENTS_MAX; i++) {
        bytes_free(&request.arguments[i]);
    }
}

int
main(void)
{
    static char line[LINE_MAX_BYTES];
    while (fgets(line, sizeof(line), stdin) != NULL) {
        answer(line);
    }
    return EXIT_SUCCESS;
}
